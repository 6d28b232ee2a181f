"""From a call that deploys to its command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.domain.errors import InvalidInput, Violation
from engine.market import commands
from engine.market.events import Key
from engine.service import cluster_codec as codec
from engine.service.fields import Checks, resource_id
from engine.service.order_codec import retry_on_loss_s

Deployment = commands.DeployCluster | commands.DeployQuote


def deploy_command(tenant_id: str, request: Any, key: Key | None) -> Deployment:
    """The command of a DeployClusterRequest; InvalidInput lists what is wrong with it."""
    checks = Checks()
    checks.read(_one_of_two, request)
    read: Callable[..., Deployment] = cluster_command if request.HasField("cluster") else _quote_command
    command = checks.read(read, tenant_id, request, key)
    checks.done()
    assert command is not None
    return command


def cluster_command(tenant_id: str, request: Any, key: Key | None) -> commands.DeployCluster:
    """The command of a message for a cluster, or of one item of a batch; InvalidInput as above."""
    checks = Checks()
    cluster = checks.read(codec.required_cluster, request)
    on_loss_s = checks.read(retry_on_loss_s, request.retry_on_loss_s)
    checks.read(check_locks, request)
    checks.done()
    assert cluster is not None and on_loss_s is not None
    return commands.DeployCluster(tenant_id, cluster, key, request.lock_extension_price, on_loss_s)


def check_locks(request: Any) -> None:
    """InvalidInput if a quote or deployment asks for what its cluster cannot have.

    It reads the message's own flags: what else is wrong with the cluster does not hide it.
    """
    cluster = request.cluster
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


def _quote_command(tenant_id: str, request: Any, key: Key | None) -> commands.DeployQuote:
    checks = Checks()
    quote_id = checks.read(_quote_id, request)
    if request.lock_extension_price:
        checks.wrong("lock_extension_price", "a quote says so itself: give it to QuoteCluster")
    if request.retry_on_loss_s:
        checks.wrong("retry_on_loss_s", "is for a cluster, not for a quote")
    checks.done()
    assert quote_id is not None
    return commands.DeployQuote(tenant_id, quote_id, key)


def _one_of_two(request: Any) -> None:
    """InvalidInput if there are both, a cluster and a quote, or neither; a name that is none is listed, too."""
    if request.HasField("cluster") != bool(request.quote):
        return
    checks = Checks()
    checks.wrong("cluster", "give exactly one of cluster and quote")
    if request.quote:
        checks.read(_quote_id, request)
    checks.done()


def _quote_id(request: Any) -> str:
    return resource_id(request.quote, "quotes", "quote")
