"""A market whose time and settlements the test decides, and the journal of its events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.domain.tiers import NodeState
from engine.market import commands
from engine.market.apply import apply
from engine.market.decide import decide
from engine.market.events import AnyEvent, LeaseStarted, decode, encode
from engine.market.failure import uprooted_leases
from engine.market.ledger import accounts
from engine.market.ledger.rules import LedgerRules
from engine.market.settle_decision import interruptible_leases
from engine.market.state import MarketState
from engine.planning.plan_terms import Place, moved_terms
from tests.market.books import NoBook
from tests.market.small_market import published
from tests.service.loopback import node

SECOND_US = 1_000_000
SUPPLIERS = ("acme", "bolt", "corp", "dune", "echo")
NOTICE_S = 120
NEVER_S = 366 * 24 * 3_600


def fleet(nodes: int, gpus: int = 8) -> list[dict[str, Any]]:
    """Nodes of several suppliers at uneven asks, so that nothing divides."""
    return [
        node(
            f"n{i:05d}",
            supplier_id=SUPPLIERS[i % len(SUPPLIERS)],
            gpu_count=gpus,
            ask_micro_usd_per_gpu_hour=1_000_003 + 7_919 * (i % 97),
        )
        for i in range(nodes)
    ]


class LedgerMarket:
    """Follows commands like the engine does, without a journal on disk."""

    def __init__(self, rules: LedgerRules | None = None, nodes: int = 10) -> None:
        self.state, self.now_us = MarketState(), 1_700_000_000_000_000
        self.plans = self.epoch = 0
        self.events: list[AnyEvent] = []
        self.payloads: list[bytes] = []
        self.do(commands.SetLedgerRules(rules or LedgerRules()))
        if nodes:
            self.load(fleet(nodes))

    def do(self, command: commands.Command) -> list[AnyEvent]:
        events = decide(self.state, command, self.now_us, NoBook())
        for event in events:
            payload = encode(event)
            self.payloads.append(payload)
            self.events.append(decode(payload))
            apply(self.state, event)
        return events

    def load(self, rows: list[dict[str, Any]]) -> None:
        self.do(commands.LoadFleet(pl.DataFrame(rows, schema=FLEET_SCHEMA), pl.DataFrame(schema=RTT_SCHEMA)))

    def wait(self, seconds: float) -> None:
        """Let time pass, and then do what has come due."""
        self.now_us += round(seconds * SECOND_US)
        due = self.state.next_due()
        if due is not None and due[0] <= self.now_us:
            self.do(commands.EndDueLeases())
        while self.state.books.is_settlement_due(self.now_us):
            self.do(commands.SettleLeases())

    def deploy(self, gpu_count: int, tenant: str = "alice", lock: bool = False, **fields: Any) -> LeaseStarted:
        (event,) = self.do(commands.DeployCluster(tenant, ClusterRequest(gpu_count, **fields), None, lock))
        assert isinstance(event, LeaseStarted)
        return event

    def release(self, lease_id: str, tenant: str = "alice") -> AnyEvent:
        (event,) = self.do(commands.ReleaseLease(tenant, lease_id))
        return event

    def extend(self, lease_id: str, duration_s: int, tenant: str = "alice") -> list[AnyEvent]:
        return self.do(commands.ExtendLease(tenant, lease_id, duration_s))

    def shrink(self, lease_id: str, replicas: int, tenant: str = "alice") -> list[AnyEvent]:
        return self.do(commands.ShrinkLease(tenant, lease_id, replicas))

    def publish(self, posted: int, long_run: int, interruptible: int, half_life_h: float = 7.3) -> list[AnyEvent]:
        """New prices, and what interruptible leases make of them."""
        self.epoch += 1
        prices = posted, long_run, half_life_h, 10**6, interruptible
        self.do(commands.PublishPrices(published(self.state, self.epoch, self.now_us, *prices)))
        leases = tuple(interruptible_leases(self.state))
        return self.do(commands.SettleInterruptible(leases, NOTICE_S * SECOND_US))

    def deposit(self, amount_micro_usd: int, tenant: str = "alice") -> None:
        self.do(commands.DepositFunds(tenant, amount_micro_usd))

    def drain_all(self, notice_s: int, seconds: float) -> None:
        """Drain every node, so that no lease can move, and make them READY again after some time."""
        names = self.state.inventory.sorted_ids
        self._repaired(commands.DrainNode(name, notice_s) for name in names)
        self.wait(seconds)
        self._repaired(())
        self._repaired(commands.SetNodeState(name, NodeState.READY) for name in names)

    def _repaired(self, changes: Iterable[commands.Command]) -> None:
        for command in changes:
            self.do(command)
        for lease_id in uprooted_leases(self.state, list(self.state.leases)):
            self.do(commands.RepairLease(lease_id))

    def move(self, lease_id: str) -> list[AnyEvent]:
        """Move a lease to the unused GPUs with the highest numbers, if it fits there."""
        standing, unused = self.state.leases[lease_id].standing, self.state.inventory.unused.copy()
        is_part = standing.card >= 0
        unused[standing.node_numbers] += 0 if is_part else standing.gpus_per_node
        left, place = standing.request.gpu_count, {}
        for number in np.flatnonzero(unused)[::-1].tolist():
            if left and (taken := min(left, int(unused[number]))):
                place[number], left = taken, left - taken
        if left:
            return []
        rank = self.state.inventory.nodes.rank
        nodes = np.array(sorted(place, key=lambda number: rank[number]), dtype=np.int64)
        gpus = np.array([place[number] for number in nodes.tolist()], dtype=np.int64)
        card = self.state.inventory.spare.cards.first_whole(int(nodes[0])) if is_part else -1
        terms = moved_terms(standing, Place(nodes, gpus, card))
        asks = self.state.inventory.nodes.ask_micro_usd[nodes].copy()
        self.plans += 1
        planned = commands.PlannedMove(lease_id, standing, terms, asks)
        changes = commands.PlanChanges(self.state.fleet_version, (), (planned,), ())
        return self.do(commands.ApplyPlan("planner", f"plan-{self.plans}", changes))

    def replayed(self) -> MarketState:
        state = MarketState()
        for payload in self.payloads:
            apply(state, decode(payload))
        return state

    def balance(self, account: str) -> int:
        return self.state.books.balances.get(account, 0)

    def tenant(self, name: str = "alice") -> int:
        return self.balance(accounts.tenant(name))

    def earned(self) -> int:
        """What all suppliers and pots have."""
        names = [name for name in self.state.books.balances if name.startswith(accounts.SUPPLIERS)]
        return sum(map(self.balance, [*names, accounts.NETWORK_FEE, accounts.BURN, accounts.MAKE_WHOLE]))
