"""The floor: what a deploy would cost if nothing had to be decided, and the server that has it beside the engine.

`DeployCluster` of the floor parses the same request, commits the bytes of an earlier real lease through the
engine's own journal, builds the same reply through the engine's own codec from the lease's stored columns while
the writer works, and answers once the bytes are durable. It decides, audits and applies nothing. `Remember`
names that lease. `Echo` does not even commit: it parses and gives the same reply. `Epoch` runs an epoch of the
oracle, says in `timings.decision_us` what it took, and answers once the orders that it woke have been looked at.

Both stand in one process, behind one interceptor, on one event loop. The floor's entries make the journal
unfit for a replay, so the data directory is thrown away afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
from walras.v1 import cluster_service_pb2 as pb

from engine.cli.connection import CALL_TIMEOUT_S
from engine.domain.errors import NotFound
from engine.journal import Journal
from engine.market.events import LeaseStarted, decode
from engine.market.lease_decision import owned_lease
from engine.market.state import Lease
from engine.service import cluster_codec as codec
from engine.service import server
from engine.service.engine import Engine
from engine.service.fields import resource_id
from engine.service.identity import calling_tenant
from engine.service.options import ServerOptions, default_parameters
from engine.trust.permissions import METHODS, TENANTS, Permission

FLOOR_SERVICE = "walras.benchmarks.Floor"
EPOCH_US = 1_000_000
"""Of a server whose epochs are asked for: they may follow each other."""
RESTING_S = 0.01
LAST_EVENTS = 8
"""How far back a lease may have been started: the oracle's epochs and ended leases are events, too."""


class Floor:
    """The two methods. One lease is remembered at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lease: Lease | None = None
        self._payload = b""

    async def remember(self, request: pb.GetLeaseRequest, context: Any) -> pb.Lease:
        """Take a lease that was just started, with its bytes in the journal, as what to repeat."""
        lease_id = resource_id(request.name, "leases")
        state, journal = self._engine.state, self._engine.journal
        started = _started(journal, lease_id)
        if started is None:
            raise NotFound(f"leases/{lease_id} is not among the last {LAST_EVENTS} events of the journal")
        self._lease, self._payload = owned_lease(state, calling_tenant(), lease_id), started
        return codec.started_lease_message(state.inventory, self._lease)

    async def deploy(self, request: pb.DeployClusterRequest, context: Any) -> pb.Lease:
        """Parse, hand to the writer, rebuild, wait for the disk."""
        codec.request_from(request.cluster)
        if self._lease is None:
            raise NotFound("no lease is remembered")
        receipt = self._engine.journal.append([self._payload], self._engine.now_us())
        reply = codec.started_lease_message(self._engine.state.inventory, self._lease)
        await receipt
        return reply

    async def echo(self, request: pb.DeployClusterRequest, context: Any) -> pb.Lease:
        """Parse and rebuild: what a call costs whoever answers it."""
        codec.request_from(request.cluster)
        if self._lease is None:
            raise NotFound("no lease is remembered")
        return codec.started_lease_message(self._engine.state.inventory, self._lease)


def _started(journal: Journal, lease_id: str) -> bytes | None:
    """The bytes of the event that started the lease, if it is one of the last: an epoch may have come after it."""
    for entry in journal.replay(max(0, journal.durable_sequence - LAST_EVENTS)):
        event = decode(entry.payload)
        if isinstance(event, LeaseStarted) and event.lease_id == lease_id:
            return entry.payload
    return None


class ServerWithFloor(server.Server):
    """The engine's server with the floor as one more service."""

    def __init__(self, engine: Engine, options: ServerOptions, **given: Any) -> None:
        super().__init__(engine, options, **given)
        floor = Floor(engine)
        methods = {
            "Remember": _method(floor.remember, pb.GetLeaseRequest),
            "DeployCluster": _method(floor.deploy, pb.DeployClusterRequest),
            "Echo": _method(floor.echo, pb.DeployClusterRequest),
            "Epoch": _method(self._epoch, pb.GetLeaseRequest),
        }
        METHODS.update({f"/{FLOOR_SERVICE}/{name}": Permission(TENANTS, mutates=True) for name in methods})
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(FLOOR_SERVICE, methods),))

    async def _epoch(self, request: pb.GetLeaseRequest, context: Any) -> pb.Lease:
        """Run an epoch, as soon as the last one is over and nothing else is being done."""
        await self._rest()
        started_s = time.perf_counter()
        while not await self.oracle.run_epoch():
            await asyncio.sleep(EPOCH_US / 2e7)
            started_s = time.perf_counter()
        took_us = round(1e6 * (time.perf_counter() - started_s))
        await self._rest()
        return pb.Lease(timings=pb.Timings(decision_us=took_us))

    async def _rest(self) -> None:
        while not self.upkeep.is_resting:
            await asyncio.sleep(RESTING_S)


def _method(behave: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        behave, request_deserializer=request.FromString, response_serializer=pb.Lease.SerializeToString
    )


def main() -> int:
    """`walras serve --dev --listen 127.0.0.1:0`, with the floor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--epochs-asked", action="store_true", help="epochs of a second, run when asked to only")
    given = parser.parse_args()
    options = ServerOptions(listen="127.0.0.1:0", data_dir=given.data_dir, dev=True)
    if given.epochs_asked:
        oracle = replace(default_parameters(()), epoch_us=EPOCH_US)
        options = replace(options, oracle=oracle, oracle_tick_s=0.0, deadline_s_max=CALL_TIMEOUT_S)
    with patch.object(server, "Server", ServerWithFloor):  # whatever else a start does, both servers do
        return server.run(options)


if __name__ == "__main__":
    sys.exit(main())
