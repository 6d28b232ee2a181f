"""The life of a server: replay, warm up, listen, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from contextlib import suppress

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from walras.v1 import (
    cluster_service_pb2,
    fleet_service_pb2,
    ledger_service_pb2,
    oracle_service_pb2,
    order_service_pb2,
    plan_service_pb2,
)
from walras.v1.cluster_service_pb2_grpc import add_ClusterServiceServicer_to_server
from walras.v1.fleet_service_pb2_grpc import add_FleetServiceServicer_to_server
from walras.v1.ledger_service_pb2_grpc import add_LedgerServiceServicer_to_server
from walras.v1.oracle_service_pb2_grpc import add_OracleServiceServicer_to_server
from walras.v1.order_service_pb2_grpc import add_OrderServiceServicer_to_server
from walras.v1.plan_service_pb2_grpc import add_PlanServiceServicer_to_server

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import Unavailable, WalrasError
from engine.journal import Following
from engine.market.commands import SetLedgerRules
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.planning.queue_plan import OUR_SOLVER, Solver
from engine.service.acts import Acts
from engine.service.admission import Admission
from engine.service.calls import CallInterceptor
from engine.service.cluster_service import ClusterService
from engine.service.engine import Engine
from engine.service.fleet_service import FleetService
from engine.service.garbage import Garbage
from engine.service.health import Health
from engine.service.identity import Identity
from engine.service.ledger_service import LedgerService
from engine.service.options import ServerOptions, default_parameters
from engine.service.oracle_runner import OracleRunner
from engine.service.oracle_service import OracleService
from engine.service.order_service import OrderService
from engine.service.plan_service import PlanService
from engine.service.price_book import ReferenceBook
from engine.service.pricing import Pricing, priced
from engine.service.pricing_process import PricingProcess
from engine.service.priorities import lower_readers
from engine.service.references import references_of
from engine.service.replica import Replica
from engine.service.snapshot_keeper import SnapshotKeeper
from engine.service.thread_rest import ThreadRest
from engine.service.tls import server_credentials
from engine.service.upkeep import Upkeep
from engine.service.watch_changes import Watches
from engine.service.wire_limits import wire_limits
from engine.trust.key_ring import KeyRing
from engine.trust.quotas import NO_QUOTAS, Quotas
from solvers.warmup import warm_up

log = logging.getLogger("walras.server")
LEASE_TICK_S = 1.0
SWITCH_INTERVAL_S = 0.0005
"""The journal's writer thread needs the interpreter about five times per commit; the default of 5 ms a turn
would make commits wait for decisions."""

SERVICES = (
    cluster_service_pb2.DESCRIPTOR.services_by_name["ClusterService"].full_name,
    fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name,
    ledger_service_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name,
    oracle_service_pb2.DESCRIPTOR.services_by_name["OracleService"].full_name,
    order_service_pb2.DESCRIPTOR.services_by_name["OrderService"].full_name,
    plan_service_pb2.DESCRIPTOR.services_by_name["PlanService"].full_name,
)


def run(options: ServerOptions) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises WalrasError if it cannot start."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if options.dev:
        log.warning("development mode: every caller is trusted to be who it says; loopback only")
    elif options.auth_jwks is None and options.tls_client_ca is None:
        log.warning("no credential can be verified: calls other than health and reflection are refused")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return asyncio.run(_serve(options))


async def _serve(options: ServerOptions) -> int:
    engine, replica = opened(options)
    pricing = PricingProcess()
    try:
        warm_up()
        garbage = Garbage(engine)
        garbage.begin()
        tending = asyncio.create_task(garbage.run())
        server = Server(engine, options, replica=replica, pricing=pricing)
        port = await server.start()
        host = options.listen.rpartition(":")[0]
        print(f"listening {host}:{port}", flush=True)  # noqa: T201
        await _until_signalled()
        tending.cancel()
        await server.drain(options.drain_s)
    finally:
        pricing.close()
        engine.close()
    return 0


def opened(options: ServerOptions) -> tuple[Engine, Replica | None]:
    """The engine on its journal; in a shared database it follows at first, and who is returned makes it lead."""
    if not options.database_url:
        return Engine(options.data_dir, ReferenceBook()), None
    engine = Engine(Following.open_url(options.database_url), ReferenceBook())
    return engine, Replica(engine, options.database_url, options.leader_lease_s)


def waiting_requests(state: MarketState) -> list[ClusterRequest]:
    """What the open orders want, by age."""
    return [state.orders[order_id].request for order_id in state.open_orders]


class Server:
    """The gRPC server around one engine."""

    def __init__(
        self,
        engine: Engine,
        options: ServerOptions,
        solver: Solver = OUR_SOLVER,
        replica: Replica | None = None,
        keys: KeyRing | None = None,
        *,
        works_alone: bool = True,
        pricing: Pricing = priced,
    ) -> None:
        """`solver`: who makes joint plans. `replica`: keeps the engine in its role, if it is one of several.
        `keys`: the issuer's, if not those of `auth_jwks`. Unless it `works_alone`, the caller runs `upkeep`.
        `pricing`: of the oracle, wherever it is done.
        """
        self._engine, self._options, self._replica = engine, options, replica
        plans = PlanService(engine, options.deadline_s_max, solver)
        self._health = Health()
        self._identity = Identity(options, keys)
        quotas = options.quotas or (NO_QUOTAS if options.dev else Quotas())
        self._acts = Acts(options.data_dir, time.monotonic, engine.now_us)
        admission = Admission(quotas, time.monotonic)
        interceptor = CallInterceptor(
            self._identity,
            admission,
            self._acts,
            deadline_s_max=options.deadline_s_max,
            redirect=engine.redirect,
        )
        self._server = grpc.aio.server(
            interceptors=[interceptor],
            options=wire_limits(options.message_bytes_max),
        )
        self.oracle = OracleRunner(
            engine,
            references_of(options.price_sources, engine.book),
            options.oracle or default_parameters(options.price_sources),
            options.interruptible_notice_s,
            waiting_requests,
            pricing,
            ThreadRest(),
        )
        self.upkeep, self._works_alone = Upkeep(engine, options.heartbeats), works_alone
        self._watches = Watches(engine, options.deadline_s_max)
        clusters = ClusterService(engine, options.holds, self.oracle.note_refused, self._watches, admission)
        orders = OrderService(engine, self._watches, options.orders)
        prices = OracleService(engine, self.oracle.feed, self.oracle.parameters, options.deadline_s_max)
        add_ClusterServiceServicer_to_server(clusters, self._server)
        fleet = FleetService(engine, quotas.load_percent_max, self.upkeep.heartbeats)
        add_FleetServiceServicer_to_server(fleet, self._server)
        add_LedgerServiceServicer_to_server(LedgerService(engine), self._server)
        add_OrderServiceServicer_to_server(orders, self._server)
        add_OracleServiceServicer_to_server(prices, self._server)
        add_PlanServiceServicer_to_server(plans, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)  # type: ignore[no-untyped-call]
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)  # type: ignore[no-untyped-call]
        self._snapshots = SnapshotKeeper(engine, options.snapshot_events)
        self._ticks: list[asyncio.Task[None]] = []
        self.node_port: int | None = None

    async def start(self) -> int:
        """Listen and serve; returns the port. Unavailable if the address cannot be had."""
        options = self._options
        self._set_ledger_rules()
        port = self._listen(options.listen, demand_client=options.node_listen is None)
        if options.node_listen is not None:
            self.node_port = self._listen(options.node_listen, demand_client=True)
        self._ticks = [asyncio.create_task(self._identity.keep_fresh())]
        await self._server.start()
        lower_readers()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._ticks.append(asyncio.create_task(self._watch()))
        if self._works_alone:
            self._ticks.append(asyncio.create_task(self.upkeep.run()))
        if self._replica is not None:
            await self._begin_role(self._replica, port)
        await self._health.show_role(leads=self._engine.leads)
        if self._options.oracle_tick_s:
            self._ticks.append(asyncio.create_task(self.oracle.run(self._options.oracle_tick_s)))
        return int(port)

    def _set_ledger_rules(self) -> None:
        """Let the ledger go by the rules of the options, if this engine leads; no event if it does already."""
        if self._engine.leads:
            rules = self._options.ledger.rules(self._options.dev, self.oracle.parameters.network_fee_ppm)
            self._engine.submit(SetLedgerRules(rules), NO_STOPWATCH)

    async def _begin_role(self, replica: Replica, port: int) -> None:
        host = self._options.listen.rpartition(":")[0]
        replica.address = self._options.advertise or f"{host}:{port}"
        replica.changed = self._role_changed
        await replica.settle()
        self._ticks.append(asyncio.create_task(replica.run()))

    async def _role_changed(self) -> None:
        self._set_ledger_rules()
        self.oracle.feed.wake()
        await self._health.show_role(leads=self._engine.leads)

    def _listen(self, address: str, *, demand_client: bool) -> int:
        """Open a listener, with TLS if there is a certificate; its port."""
        options = self._options
        try:
            if options.tls_cert is None:
                port = self._server.add_insecure_port(address)
            else:
                demanded = demand_client and options.tls_client_ca is not None
                port = self._server.add_secure_port(address, server_credentials(options, demand_client=demanded))
        except RuntimeError:
            port = 0
        if port == 0:
            raise Unavailable(f"cannot listen on {address}: the address is taken or not ours, or TLS cannot start")
        return int(port)

    async def drain(self, grace_s: float) -> None:
        """Tell health, refuse new calls, let running ones finish."""
        for tick in self._ticks:
            tick.cancel()
        self.oracle.feed.close()
        self._watches.close()
        await self._health.drain()
        await self._server.stop(grace_s)
        await self._snapshots.take()
        self._acts.close()

    async def _watch(self) -> None:
        """See to what time brings even when nobody calls, and stop claiming health if the journal fails."""
        while self._replica is not None or self._engine.journal.failure is None:
            await asyncio.sleep(LEASE_TICK_S)
            self._engine.journal.refuse_stalled()
            await asyncio.to_thread(self._acts.sync)
            with suppress(WalrasError):  # overloaded: the next tick tries again; unavailable: the loop ends
                self._engine.end_due(self._engine.now_us())
                if self._works_alone:
                    self.upkeep.tick()
            await self._snapshots.tick()
        log.error("the journal cannot be written: %s", self._engine.journal.failure)
        await self._health.enter_graceful_shutdown()


async def _until_signalled() -> None:
    """Handlers of the process, not of the loop: a second signal must not kill what is just ending."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told(_number: int, _frame: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: it has been told before
            loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    await stop.wait()
