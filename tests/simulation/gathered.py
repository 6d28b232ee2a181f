"""Deployments that come one by one and are decided together, by the code that does so in a real server."""

from __future__ import annotations

from dataclasses import replace

from engine.domain.cluster_request import shape_of
from engine.market.commands import DeployCluster
from engine.market.many_decision import may_be_many
from engine.market.state import Lease, MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.batch_items import BatchItem
from engine.service.engine import Engine
from engine.service.gathered_deploys import GatheredDeploys
from tests.simulation.answers import shown
from tests.simulation.calls import Call, Reply

QUIET_S = 0.02
"""Long enough for two calls to meet."""


class Wanted:
    """What `engine.service.batch_items.Call` reads out of a message."""

    def __init__(self, command: DeployCluster) -> None:
        self.tenant_id, self.command = command.tenant_id, replace(command, key=None)
        self.body_hash = b"" if command.key is None else command.key.body_hash
        self.shape = shape_of(command.request)


def gathers(call: Call) -> bool:
    """Whether a call can be decided together with others."""
    command = call.command
    return isinstance(command, DeployCluster) and may_be_many(command.request) and not command.lock_extension


async def answered(gathered: GatheredDeploys, engine: Engine, call: Call) -> Reply:
    """What the engine answers, once it is durable."""
    assert isinstance(call.command, DeployCluster)

    def answer(state: MarketState, lease: Lease, is_new: bool) -> Reply:
        return shown(state, lease.lease_id, call.tenant, engine.now_us())

    item = BatchItem("", Wanted(call.command), "" if call.key is None else call.key.key)  # type: ignore[arg-type]
    return await gathered.decided(item, NO_STOPWATCH, answer)
