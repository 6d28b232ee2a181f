"""From a message of a batch to its items: each the same call as a DeployCluster of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from walras.v1 import cluster_service_pb2 as pb

from engine.domain.cluster_request import text_problem
from engine.domain.errors import InvalidInput, Violation
from engine.market.commands import DeployCluster, DeployMany
from engine.market.events import Key
from engine.market.many_decision import may_be_many
from engine.service.deploy_call import cluster_command
from engine.service.fields import Checks, body_hash, key_of

ITEMS_MAX = 1_000
METHOD = "DeployCluster"
"""Whose keys they are."""


class Call:
    """The DeployClusterRequest that items stand for, its key apart; alike ones share it, and it is read once."""

    def __init__(self, tenant_id: str, message: pb.DeployClusterRequest) -> None:
        self.tenant_id, self.message = tenant_id, message

    @cached_property
    def body_hash(self) -> bytes:
        """What goes with its key."""
        return body_hash(self.message)

    @cached_property
    def command(self) -> DeployCluster:
        """The command, without a key; InvalidInput lists what is wrong with it."""
        if not self.message.HasField("cluster"):
            raise InvalidInput([Violation("cluster", "is required")])
        return cluster_command(self.tenant_id, self.message, None)

    @cached_property
    def kin(self) -> bytes | None:
        """Equal for calls alike but for their number of GPUs, whose items are decided together; None if they may
        not be, or if something is wrong with the call."""
        try:
            if not may_be_many(self.command.request) or self.message.lock_extension_price:
                return None
        except InvalidInput:
            return None
        message = pb.DeployClusterRequest()
        message.CopyFrom(self.message)
        message.cluster.ClearField("gpu_count")
        return message.SerializeToString(deterministic=True)

    def with_gpus(self, gpu_count: int) -> Call:
        """The same for another number of GPUs."""
        message = pb.DeployClusterRequest()
        message.CopyFrom(self.message)
        message.cluster.gpu_count = gpu_count
        return Call(self.tenant_id, message)


class Calls:
    """The calls of one message."""

    def __init__(self, tenant_id: str) -> None:
        self._tenant_id = tenant_id
        self._known: dict[bytes, Call] = {}

    def of(self, item: Any) -> Call:
        """The call that an item stands for."""
        message = pb.DeployClusterRequest(
            cluster=item.cluster if item.HasField("cluster") else None,
            lock_extension_price=item.lock_extension_price,
            retry_on_loss_s=item.retry_on_loss_s,
        )
        return self._known.setdefault(message.SerializeToString(), Call(self._tenant_id, message))


class BatchItem(NamedTuple):
    """One item. `name`: what its violations begin with."""

    name: str
    call: Call
    key: str

    def command(self) -> DeployCluster:
        """The command of the item; InvalidInput lists what is wrong with it."""
        checks = Checks()
        key = checks.read(_key, self)
        unkeyed = checks.read(lambda: self.call.command)
        checks.done()
        assert unkeyed is not None
        return DeployCluster(
            unkeyed.tenant_id, unkeyed.request, key, unkeyed.lock_extension, unkeyed.retry_on_loss_s
        )


def _key(item: BatchItem) -> Key | None:
    return key_of(item.call.tenant_id, METHOD, item.key, item.call.body_hash) if item.key else None


def alike(items: Sequence[BatchItem], gpus_most: int) -> DeployMany | None:
    """The command for the first of the items that may be decided together, at most so many GPUs in all; None if
    those are fewer than two."""
    first, gpus, keys, size_of = items[0].call, 0, list[str](), list[int]()
    places: dict[int, int] = {}
    sizes: list[tuple[int, bytes]] = []
    for item in items:
        call = item.call
        if first.kin is None or call.kin != first.kin or (item.key and text_problem(item.key)):
            break
        count = call.command.request.gpu_count
        gpus += count
        if gpus > gpus_most:
            break
        if count not in places:
            places[count] = len(sizes)
            sizes.append((count, call.body_hash))
        keys.append(item.key)
        size_of.append(places[count])
    if len(keys) < 2:
        return None
    command = first.command
    return DeployMany(
        command.tenant_id, command.request, tuple(sizes), size_of, keys, METHOD, command.retry_on_loss_s
    )


def items_of(tenant_id: str, message: Any) -> list[BatchItem]:
    """The items of a DeployClustersRequest; InvalidInput if it is no list of 1 to ITEMS_MAX of them."""
    if bool(message.items) == message.HasField("series"):
        raise InvalidInput([Violation("items", "give exactly one of items and series")])
    if message.items:
        _check_count("items", len(message.items))
        calls = Calls(tenant_id)
        return [
            BatchItem(f"items[{index}].", calls.of(item), item.idempotency_key)
            for index, item in enumerate(message.items)
        ]
    return _series(tenant_id, message.series)


def _series(tenant_id: str, series: Any) -> list[BatchItem]:
    _check_count("series.idempotency_keys", len(series.idempotency_keys))
    violations = []
    if series.deployment.idempotency_key:
        violations.append(Violation("series.deployment.idempotency_key", "must be empty: every item has its own"))
    counts = list(series.gpu_counts)
    if counts and len(counts) != len(series.idempotency_keys):
        told = f"must be as many as keys, {len(series.idempotency_keys)}, or none, got {len(counts)}"
        violations.append(Violation("series.gpu_counts", told))
    if violations:
        raise InvalidInput(violations)
    shared = Calls(tenant_id).of(series.deployment)
    by_count = {count: shared.with_gpus(count) for count in set(counts)}
    return [
        BatchItem(f"series[{index}].", by_count[counts[index]] if counts else shared, key)
        for index, key in enumerate(series.idempotency_keys)
    ]


def _check_count(field: str, count: int) -> None:
    if not 1 <= count <= ITEMS_MAX:
        raise InvalidInput([Violation(field, f"must be 1 to {ITEMS_MAX:,}, got {count:,}")])
