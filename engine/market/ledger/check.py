"""The dumb twin of the books: follows the events of a journal and lists everything in their money that is wrong.

It shares no code with the booking side but the shape of the events: accounts are plain texts, parts are exact
fractions, suppliers come from the fleets loaded. Checked for every entry: it sums to zero and moves money the way
its kind may; for every account at every point: nothing below zero; for every lease: escrow = total, charged what
its started seconds cost, everyone paid its part, what is left refunded; over all: what came in is what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from engine.market.apply import read_frame
from engine.market.events import (
    AnyEvent,
    FleetLoaded,
    FundsDeposited,
    FundsWithdrawn,
    LeaseEnded,
    LeaseMoved,
    LeasesSettled,
    LeaseStarted,
    LedgerRulesSet,
    Terms,
)
from engine.market.ledger.check_lease import POTS, Reckoning
from engine.market.ledger.entries import Entry

ROUTES = {
    "DEPOSIT": ("outside/", ("tenants/",)),
    "WITHDRAWAL": ("tenants/", ("outside/",)),
    "DEV_CREDIT": ("dev-credits/", ("tenants/",)),
    "ESCROW": ("tenants/", ("escrows/",)),
    "SETTLEMENT": ("escrows/", ("suppliers/", *POTS)),
    "REFUND": ("escrows/", ("tenants/",)),
}
"""From where money may go, and to where, by the kind of entry."""


class Fault(NamedTuple):
    """What is wrong with an event. `code`: UPPER_SNAKE, of few kinds."""

    sequence: int
    code: str
    detail: str

    def __str__(self) -> str:
        return f"event {self.sequence}: {self.code}: {self.detail}"


class LedgerCheck:
    """Follows events one by one. `faults`: so far; `balances`: by account; `flows`: sums by kind of entry."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.balances, self.flows = Counter[str](), Counter[str]()
        self.entries = self.leases = self.unbooked = 0
        self.running: dict[str, Reckoning] = {}
        self.sequence = 0
        self._nodes: list[str] = []
        self._supplier: dict[str, str] = {}
        self._parts, self._needs_deposit, self._opened = (0, 0), False, False

    def follow(self, sequence: int, event: AnyEvent) -> None:
        """Take in the next event."""
        self.sequence = sequence
        booked = event.money.entries if event.money is not None else []
        self._opened = self._opened or event.money is not None
        for entry in booked:
            self._post(entry)
        match event:
            case FleetLoaded():
                self._load(event)
            case LedgerRulesSet():
                self._parts = event.rules.burn_ppm, event.rules.make_whole_ppm
                self._needs_deposit, self._opened = event.rules.require_deposit, True
            case FundsDeposited():
                self._transferred(booked, event.tenant_id, event.amount_micro_usd)
            case FundsWithdrawn():
                self._transferred(booked, event.tenant_id, -event.amount_micro_usd)
            case LeaseStarted():
                self._start(event, booked)
            case LeaseMoved():
                self._move(event, booked)
            case LeasesSettled():
                self._settle(event, booked)
            case LeaseEnded():
                self._end(event, booked)
            case _ if booked:
                self._fault("STRAY", "moves money without a reason")

    def finish(self) -> list[Fault]:
        """All faults, the sums over the whole journal included."""
        held = sum(reckoning.left for reckoning in self.running.values())
        in_escrow = sum(amount for name, amount in self.balances.items() if name.startswith("escrows/"))
        if held != in_escrow:
            self._fault("TOTALS", f"escrows hold {in_escrow}, by their leases it should be {held}")
        if out := sum(self.balances.values()):
            self._fault("TOTALS", f"all accounts together hold {out} instead of 0")
        return self.faults

    def _post(self, entry: Entry) -> None:
        self.entries += 1
        legs = [(account, amount) for account, amount in entry.legs]
        if total := sum(amount for _, amount in legs):
            self._fault("UNBALANCED", f"{entry.kind} of {entry.subject} sums to {total}")
        source, sinks = ROUTES.get(entry.kind, ("-", ("-",)))
        for account, amount in legs:
            if not account.startswith(source if amount < 0 else sinks):
                self._fault("ROUTE", f"{entry.kind} of {entry.subject} moves {amount} at {account}")
            self.balances[account] += amount
            self.flows[entry.kind] += max(amount, 0)
            outside = account.startswith(("outside/", "dev-credits/"))
            if (self.balances[account] > 0) if outside else (self.balances[account] < 0):
                self._fault("NEGATIVE", f"{account} stands at {self.balances[account]} after {entry.kind}")
        self._note(entry, legs)

    def _note(self, entry: Entry, legs: list[tuple[str, int]]) -> None:
        """Count an entry for its lease; one that is not running has nothing to move but its first escrow."""
        reckoning = self.running.get(entry.subject)
        if entry.kind not in ("SETTLEMENT", "REFUND"):
            return
        if reckoning is None:
            self._fault("STRAY", f"{entry.kind} of {entry.subject}, which is not running")
            return
        own = {f"escrows/{entry.subject}"}
        if strange := {account for account, amount in legs if amount < 0} - own:
            self._fault("ROUTE", f"{entry.kind} of {entry.subject} takes from {', '.join(sorted(strange))}")
        amount = -sum(amount for _, amount in legs if amount < 0)
        if entry.kind == "REFUND":
            reckoning.refunded += amount
            if strange := {account for account, got in legs if got > 0} - {f"tenants/{reckoning.tenant_id}"}:
                self._fault("ROUTE", f"the refund of {entry.subject} goes to {', '.join(sorted(strange))}")
        else:
            reckoning.settled += amount
            reckoning.paid.update({account: amount for account, amount in legs if amount > 0})

    def _transferred(self, booked: list[Entry], tenant_id: str, amount: int) -> None:
        self._expect(booked, {f"outside/{tenant_id}": -amount, f"tenants/{tenant_id}": amount})

    def _start(self, event: LeaseStarted, booked: list[Entry]) -> None:
        if event.money is None:
            self.unbooked += 1
            if self._opened:
                self._fault("UNBOOKED", f"leases/{event.lease_id} started without an escrow")
            return
        terms, name = event.terms, event.lease_id
        wanted = {f"tenants/{event.tenant_id}": -terms.total_micro_usd, f"escrows/{name}": terms.total_micro_usd}
        self._expect([entry for entry in booked if entry.kind != "DEV_CREDIT"], wanted)
        if any(entry.kind == "DEV_CREDIT" for entry in booked):
            if self._needs_deposit:
                self._fault("ROUTE", f"leases/{name} was credited although deposits are needed")
            if left := self.balances[f"tenants/{event.tenant_id}"]:
                self._fault("AMOUNT", f"leases/{name} was credited more than was missing: {left} are left")
        self.leases += 1
        self.running[name] = Reckoning(
            event.tenant_id,
            event.at_us,
            event.ends_at_us,
            terms.total_micro_usd - terms.spread_micro_usd,
            terms.spread_micro_usd,
            self._weights(terms),
            (terms.network_fee_ppm, *self._parts),
            terms.total_micro_usd,
        )

    def _move(self, event: LeaseMoved, booked: list[Entry]) -> None:
        if (reckoning := self._reckoned(event.lease_id, event, booked)) is not None:
            due = reckoning.due(event.at_us)
            self._list("CHARGE", event.lease_id, reckoning.faults_at_close(due))
            reckoning.move(event.at_us, due, self._weights(event))

    def _settle(self, event: LeasesSettled, booked: list[Entry]) -> None:
        for lease_id in event.leases:
            reckoning = self._reckoned(lease_id, event, booked)
            if reckoning is not None:
                due, reckoning.settled_at_us = reckoning.due(event.at_us), event.at_us
                self._list("CHARGE", lease_id, reckoning.faults_while_running(due))
            elif lease_id not in self.running:
                self._fault("STRAY", f"leases/{lease_id} is settled and not running")

    def _end(self, event: LeaseEnded, booked: list[Entry]) -> None:
        reckoning = self._reckoned(event.lease_id, event, booked)
        if reckoning is None:
            return
        del self.running[event.lease_id]
        self._list("CHARGE", event.lease_id, reckoning.faults_at_close(self._charged(reckoning, event)))
        if reckoning.left:
            self._fault(
                "ESCROW_LEFT", f"leases/{event.lease_id} ended with {reckoning.left} neither paid nor back"
            )

    def _charged(self, reckoning: Reckoning, event: LeaseEnded) -> int:
        """What a lease must have cost since it started or last moved."""
        return reckoning.due(max(event.ended_at_us, reckoning.settled_at_us))

    def _reckoned(self, lease_id: str, event: AnyEvent, booked: list[Entry]) -> Reckoning | None:
        """The lease, if it has an escrow; its money must then be there."""
        reckoning = self.running.get(lease_id)
        if reckoning is not None and event.money is None:
            self._fault("UNBOOKED", f"leases/{lease_id} has an escrow that nothing is done with")
        return reckoning

    def _weights(self, placed: Terms | LeaseMoved) -> dict[str, int]:
        nodes = np.frombuffer(placed.nodes, dtype="<i4").tolist()
        gpus = np.frombuffer(placed.gpus, dtype="<i4").tolist()
        prices = np.frombuffer(placed.prices_micro_usd_per_gpu_hour, dtype="<i8").tolist()
        weights = Counter[str]()
        for node, count, price in zip(nodes, gpus, prices, strict=True):
            weights[self._supplier[self._nodes[node]]] += count * (price if any(prices) else 1)
        return dict(weights)

    def _load(self, event: FleetLoaded) -> None:
        frame = read_frame(event.nodes)
        rows = dict(zip(frame["node_id"].to_list(), frame["supplier_id"].to_list(), strict=True))
        self._nodes += sorted(rows.keys() - self._supplier.keys())
        self._supplier |= rows

    def _expect(self, booked: list[Entry], wanted: dict[str, int]) -> None:
        """The entries together must do just this."""
        done = Counter[str]()
        for entry in booked:
            for account, amount in entry.legs:
                done[account] += amount
        wanted = {account: amount for account, amount in wanted.items() if amount}
        if {account: amount for account, amount in done.items() if amount} != wanted:
            self._fault("AMOUNT", f"{dict(done)} was booked instead of {wanted}")

    def _list(self, code: str, lease_id: str, details: Iterable[str]) -> None:
        for detail in details:
            self._fault(code, f"leases/{lease_id}: {detail}")

    def _fault(self, code: str, detail: str) -> None:
        self.faults.append(Fault(self.sequence, code, detail))


def checked(events: Iterable[AnyEvent], watch: Callable[[LedgerCheck], None] = lambda _: None) -> LedgerCheck:
    """A finished check of all events; `watch` sees it after each."""
    check = LedgerCheck()
    for sequence, event in enumerate(events, 1):
        check.follow(sequence, event)
        watch(check)
    check.finish()
    return check
