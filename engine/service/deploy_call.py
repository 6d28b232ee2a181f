"""From a call that deploys to its command."""

from __future__ import annotations

from typing import Any

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import InvalidInput, Violation
from engine.market import commands
from engine.market.events import Key
from engine.service import cluster_codec as codec
from engine.service.fields import Checks, resource_id
from engine.service.order_codec import retry_on_loss_s


def deploy_command(tenant_id: str, request: Any, key: Key | None) -> commands.DeployCluster | commands.DeployQuote:
    """The command of a DeployClusterRequest; InvalidInput lists what is wrong with it."""
    if request.HasField("cluster") == bool(request.quote):
        raise InvalidInput([Violation("cluster", "give exactly one of cluster and quote")])
    if request.quote and request.lock_extension_price:
        raise InvalidInput([Violation("lock_extension_price", "a quote says so itself: give it to QuoteCluster")])
    if request.quote:
        if request.retry_on_loss_s:
            raise InvalidInput([Violation("retry_on_loss_s", "is for a cluster, not for a quote")])
        return commands.DeployQuote(tenant_id, resource_id(request.quote, "quotes", "quote"), key)
    return cluster_command(tenant_id, request, key)


def cluster_command(tenant_id: str, request: Any, key: Key | None) -> commands.DeployCluster:
    """The command of a message that has a cluster, or of one item of a batch; InvalidInput as above."""
    checks = Checks()
    cluster = checks.read(codec.request_from, request.cluster)
    on_loss_s = checks.read(retry_on_loss_s, request.retry_on_loss_s)
    checks.done()
    assert cluster is not None and on_loss_s is not None
    lockable(request, cluster)
    return commands.DeployCluster(tenant_id, cluster, key, request.lock_extension_price, on_loss_s)


def lockable(request: Any, cluster: ClusterRequest | None) -> None:
    """InvalidInput if a quote or deployment asks for what its cluster cannot have."""
    if cluster is None:
        return
    reasons = (
        (cluster.interruptible, "interruptible work is priced anew at every epoch"),
        (cluster.all_matching, "a budget leaves nothing for it: not with all_matching"),
    )
    found = [Violation("lock_extension_price", told) for holds, told in reasons if holds]
    found = found if request.lock_extension_price else []
    if cluster.all_matching and getattr(request, "hold", False):
        found.append(Violation("hold", "a budget leaves nothing for it: not with all_matching"))
    if found:
        raise InvalidInput(found)
