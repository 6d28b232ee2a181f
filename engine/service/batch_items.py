"""From a message of a batch to its items: each the same call as a DeployCluster of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from walras.v1 import cluster_service_pb2 as pb

from engine.domain.cluster_request import shape_of, text_problem, with_gpu_count
from engine.domain.errors import InvalidInput, Violation
from engine.market.commands import DeployCluster, DeployMany
from engine.market.events import Key
from engine.market.many_decision import may_be_many
from engine.service.deploy_call import cluster_command
from engine.service.fields import Checks, body_hash, key_of

ITEMS_MAX = 1_000
METHOD = "DeployCluster"
"""Whose keys they are."""
SHAPES_MAX = 8
"""Of items that are decided together: each shape costs about what an item costs that is decided by itself."""


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
        return cluster_command(self.tenant_id, self.message, None)

    @cached_property
    def shape(self) -> tuple[Any, ...] | None:
        """Equal for requests alike but for their ids and sizes; None if the call must be decided by itself, or if
        something is wrong with it."""
        try:
            request = self.command.request
        except InvalidInput:
            return None
        return shape_of(request) if may_be_many(request) and not self.message.lock_extension_price else None

    def with_gpus(self, gpu_count: int) -> Call:
        """The same for another number of GPUs; without a cluster there is none to set."""
        if not self.message.HasField("cluster"):
            return self
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


def together(items: Sequence[BatchItem], gpus_most: int) -> DeployMany | None:
    """The command for the first of the items that may be decided together, at most so many GPUs in all; None if
    those are not two of a shape."""
    gpus, enough, keys, size_of = 0, 0, list[str](), list[int]()
    sizes: dict[Call, int] = {}
    shapes = set[tuple[Any, ...]]()
    for item in items:
        call = item.call
        if call.shape is None or (item.key and text_problem(item.key)):
            break
        gpus += call.command.request.gpu_count
        if call not in sizes:
            shapes.add(call.shape)
        if gpus > gpus_most or len(shapes) > SHAPES_MAX:
            break
        keys.append(item.key)
        size_of.append(sizes.setdefault(call, len(sizes)))
        if len(keys) >= 2 * len(shapes):
            enough = len(keys)
    return _many(list(sizes), size_of[:enough], keys[:enough]) if enough else None


def _many(calls: Sequence[Call], size_of: list[int], keys: list[str]) -> DeployMany:
    calls = calls[: max(size_of) + 1]
    kinds = tuple((call.command.request, call.command.retry_on_loss_s) for call in calls)
    request, retry_s = kinds[0]
    are_alike = all(each == (with_gpu_count(request, each[0].gpu_count), retry_s) for each in kinds)
    sizes = tuple((call.command.request.gpu_count, call.body_hash) for call in calls)
    tenant_id = calls[0].tenant_id
    return DeployMany(tenant_id, request, sizes, size_of, keys, METHOD, retry_s, () if are_alike else kinds)


def items_of(tenant_id: str, message: Any) -> list[BatchItem]:
    """The items of a DeployClustersRequest; InvalidInput if it is no list of 1 to ITEMS_MAX of them."""
    checks, is_series = Checks(), message.HasField("series")
    if bool(message.items) == is_series:
        checks.wrong("items", "give exactly one of items and series")
    if message.items:
        checks.read(_check_count, "items", len(message.items))
    if is_series:
        checks.read(_check_series, message.series)
    checks.done()
    if is_series:
        return _series(tenant_id, message.series)
    calls = Calls(tenant_id)
    return [
        BatchItem(f"items[{index}].", calls.of(item), item.idempotency_key)
        for index, item in enumerate(message.items)
    ]


def _check_series(series: Any) -> None:
    checks, keys, counts = Checks(), len(series.idempotency_keys), len(series.gpu_counts)
    checks.read(_check_count, "series.idempotency_keys", keys)
    if series.deployment.idempotency_key:
        checks.wrong("series.deployment.idempotency_key", "must be empty: every item has its own")
    if counts and counts != keys:
        checks.wrong("series.gpu_counts", f"must be as many as keys, {keys}, or none, got {counts}")
    checks.done()


def _series(tenant_id: str, series: Any) -> list[BatchItem]:
    shared, counts = Calls(tenant_id).of(series.deployment), list(series.gpu_counts)
    by_count = {count: shared.with_gpus(count) for count in set(counts)}
    return [
        BatchItem(f"series[{index}].", by_count[counts[index]] if counts else shared, key)
        for index, key in enumerate(series.idempotency_keys)
    ]


def _check_count(field: str, count: int) -> None:
    if not 1 <= count <= ITEMS_MAX:
        raise InvalidInput([Violation(field, f"must be 1 to {ITEMS_MAX:,}, got {count:,}")])
