"""Batches: deployments that a caller sends in one message, each answered as if it had come by itself.

An engine answers them as `engine.service.batched_deploys` does, but for its clock: alike ones together, as many as
nothing stands against, the next one alone, all of them recorded as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.market.commands import DeployCluster, DeployMany
from engine.market.decide import made_by
from engine.market.events import LeasesStarted
from engine.market.many_decision import may_be_many
from engine.market.many_leases import lease_ids_of
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from tests.simulation.answers import shown
from tests.simulation.calls import UNKNOWN, Call, Reply

if TYPE_CHECKING:
    from tests.simulation.callers import Caller

METHOD = "DeployCluster"
KEY_TWICE = 0.2


def batch_of(caller: Caller) -> Call:
    """Some deployments in one message."""
    items = items_of(caller)
    return caller.call("DeployMany", _together(items), items=tuple(items))


def items_of(caller: Caller) -> list[Call]:
    """Two to six deployments of one or two kinds; sometimes the last comes under the key of the first."""
    draw = caller.draw
    kinds = [(_plain_request(caller), draw.choice((0, 30))) for _ in range(draw.choice((1, 2)))]
    items = [caller.deployment(*draw.choice(kinds)) for _ in range(draw.choice((2, 3, 6)))]
    if draw.random() < KEY_TWICE:
        items[-1] = replace(items[-1], command=items[0].command)
    return items


def _plain_request(caller: Caller) -> ClusterRequest:
    while not may_be_many(request := caller.request()):
        pass
    return request


def _together(items: list[Call]) -> DeployMany:
    sizes: dict[tuple[ClusterRequest, int], int] = {}
    hashes, size_of = dict[int, bytes](), list[int]()
    for item in items:
        assert isinstance(item.command, DeployCluster)
        size_of.append(sizes.setdefault((item.command.request, item.command.retry_on_loss_s), len(sizes)))
        if item.key is not None:
            hashes[size_of[-1]] = item.key.body_hash
    return DeployMany(
        items[0].tenant,
        next(iter(sizes))[0],
        tuple((request.gpu_count, hashes.get(size, b"")) for (request, _), size in sizes.items()),
        size_of,
        ["" if item.key is None else item.key.key for item in items],
        METHOD,
        next(iter(sizes))[1],
        tuple(sizes) if len(sizes) > 1 else (),
    )


async def settle(caller: Caller, call: Call) -> None:
    """Send the message once; what is not answered definitely is asked again one by one, under its key."""
    reply = await caller.ask(call, None)
    for item, own in zip(call.items, reply.items or [reply] * len(call.items), strict=True):
        if own.error not in UNKNOWN:
            caller.learn(item, own)
        elif item.key is not None:
            await caller.settle(item)


async def answered(engine: Engine, call: Call) -> Reply:
    """What an engine answers to a message, once all of it is durable."""
    replies: list[Reply] = []
    with engine.gathering():
        while len(replies) < len(call.items):
            replies += _next(engine, list(call.items[len(replies) :]))
    return await engine.read(lambda state: Reply(state.version, engine.now_us(), items=tuple(replies)))


def _next(engine: Engine, items: list[Call]) -> list[Reply]:
    """Answers to the first of some items, at least one."""
    try:
        events, _ = engine.submit(_together(items), NO_STOPWATCH)
        started = [name for event in events if isinstance(event, LeasesStarted) for name in lease_ids_of(event)]
        if not started:
            events, _ = engine.submit(items[0].command, NO_STOPWATCH)  # type: ignore[arg-type]
            started = [made_by(engine.state, events, items[0].key)]
    except WalrasError as error:
        return [Reply(engine.state.version, engine.now_us(), error=error.reason)]
    return [shown(engine.state, name, items[0].tenant, engine.now_us()) for name in started]
