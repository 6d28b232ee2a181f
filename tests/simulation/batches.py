"""Batches: deployments that a caller sends in one message, each answered as if it had come by itself.

An engine answers them as `engine.service.batched_deploys` does, but for its clock: alike ones together, as many as
nothing stands against, the next one alone, all of them recorded as one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.domain.errors import WalrasError
from engine.market.commands import DeployCluster, DeployMany
from engine.market.decide import made_by
from engine.market.events import Key, LeasesStarted
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
    """Two to six alike deployments; sometimes the last comes under the first one's key."""
    draw, request = caller.draw, caller.request()
    while not may_be_many(request):
        request = caller.request()
    retry_s = draw.choice((0, 30))
    items = [caller.deployment(request, retry_s) for _ in range(draw.choice((2, 3, 6)))]
    if draw.random() < KEY_TWICE:
        items[-1] = replace(items[-1], command=items[0].command)
    return caller.call("DeployMany", _together(items), items=tuple(items))


def _together(items: list[Call]) -> DeployMany:
    commands = [item.command for item in items]
    first = commands[0]
    assert isinstance(first, DeployCluster)
    keys: list[Key | None] = [item.key for item in items]
    body_hash = next((key.body_hash for key in keys if key is not None), b"")
    return DeployMany(
        first.tenant_id,
        first.request,
        ((first.request.gpu_count, body_hash),),
        [0] * len(items),
        ["" if key is None else key.key for key in keys],
        METHOD,
        first.retry_on_loss_s,
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
