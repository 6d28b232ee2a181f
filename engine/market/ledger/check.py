"""The dumb twin of the books: follows the events of a journal and lists everything in their money that is wrong.

It shares no code with the booking side but the shape of the events: accounts are plain texts, parts are exact
fractions, suppliers come from the fleets loaded. Checked for every entry: it sums to zero and moves money the way
its kind may; for every account at every point: nothing below zero; for every lease: escrow = total, charged what
its started seconds cost, everyone paid its part, paid back what its end or change gives, nothing left; over all:
what came in is what is there. A refund at the market's price is taken as told, within what was not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from engine.market.apply import read_frame
from engine.market.events import (
    AnyEvent,
    FleetLoaded,
    FundsDeposited,
    FundsWithdrawn,
    LeaseEnded,
    LeaseExtended,
    LeaseMoved,
    LeaseReclaiming,
    LeaseRepriced,
    LeaseShrunk,
    LeaseSpared,
    LeasesSettled,
    LeasesStarted,
    LeaseStarted,
    LedgerRulesSet,
)
from engine.market.lease_terms import Terms
from engine.market.ledger.check_lease import NEVER_US, POTS, Reckoning
from engine.market.ledger.check_stretch import Stretch
from engine.market.ledger.entries import Entry
from engine.market.many_leases import each_of

ROUTES = {
    "DEPOSIT": ("outside/", ("tenants/",)),
    "WITHDRAWAL": ("tenants/", ("outside/",)),
    "DEV_CREDIT": ("dev-credits/", ("tenants/",)),
    "ESCROW": ("tenants/", ("escrows/",)),
    "SETTLEMENT": ("escrows/", ("suppliers/", *POTS)),
    "REFUND": ("escrows/", ("tenants/",)),
}
"""From where money may go, and to where, by the kind of entry."""
KINDS: dict[type, set[str]] = {
    FundsDeposited: {"DEPOSIT"},
    FundsWithdrawn: {"WITHDRAWAL"},
    LeaseStarted: {"DEV_CREDIT", "ESCROW"},
    LeaseMoved: {"SETTLEMENT"},
    LeaseExtended: {"DEV_CREDIT", "ESCROW"},
    LeaseShrunk: {"SETTLEMENT", "REFUND"},
    LeaseRepriced: {"DEV_CREDIT", "ESCROW", "SETTLEMENT", "REFUND"},
    LeasesSettled: {"SETTLEMENT"},
    LeaseEnded: {"SETTLEMENT", "REFUND"},
}
"""Which entries an event may have; others have none."""

Changing = LeaseExtended | LeaseShrunk | LeaseRepriced
Placing = Terms | LeaseMoved | LeaseShrunk
NOT_BACK, ALL_BACK = {"COMPLETED"}, {"NODE_LOST", "SUPPLIER_DRAINED", "OUTBID", "DISPLACED"}
"""Reasons to end that give nothing, or everything unused, back; others less, unless there was a notice."""


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
        self._places: dict[str, bytes] = {}
        self._parts, self._needs_deposit, self._opened = (0, 0), False, False

    def follow(self, sequence: int, event: AnyEvent) -> None:
        """Take in the next event."""
        self.sequence = sequence
        for each in each_of(event) if isinstance(event, LeasesStarted) else (event,):
            self._follow(each)

    def _follow(self, event: AnyEvent) -> None:
        booked = event.money.entries if event.money is not None else []
        self._opened = self._opened or event.money is not None
        for entry in booked:
            self._post(entry)
        for stray in self._strays(event, booked):
            self._fault("STRAY", stray)
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
                self._move(event)
            case LeaseExtended() | LeaseShrunk() | LeaseRepriced():
                self._change(event, booked)
            case LeaseReclaiming() | LeaseSpared() if event.lease_id in self.running:
                self._notice(self.running[event.lease_id], event)
            case LeasesSettled():
                self._settle(event)
            case LeaseEnded():
                self._end(event, booked)

    def _strays(self, event: AnyEvent, booked: list[Entry]) -> Iterator[str]:
        """Entries that an event of this kind has no reason for, or that are of other leases."""
        subjects = event.leases if isinstance(event, LeasesSettled) else [getattr(event, "lease_id", None)]
        kinds = KINDS.get(type(event), set())
        for entry in booked:
            if entry.kind in ROUTES and entry.kind not in kinds:
                yield f"{entry.kind} of {entry.subject} without a reason"
            elif subjects != [None] and entry.subject not in subjects:
                yield f"{entry.kind} of {entry.subject}, which the event is not about"

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
        self._check_set_aside(name, event.tenant_id, terms.total_micro_usd, booked)
        self.leases += 1
        gpus, prices = _numbers(terms.gpus, "<i4"), _numbers(terms.prices_micro_usd_per_gpu_hour, "<i8")
        self.running[name] = Reckoning(
            event.tenant_id,
            event.at_us,
            terms.spread_micro_usd,
            self._weights(terms),
            (terms.network_fee_ppm, *self._parts),
            gpus,
            [
                Stretch(
                    0, terms.duration_s, gpus, prices, terms.profile, gpu_milli=terms.request.gpu_milli or 1_000
                )
            ],
            terms.total_micro_usd,
        )
        self._places[name] = terms.nodes

    def _check_set_aside(self, name: str, tenant_id: str, amount: int, booked: list[Entry]) -> None:
        """So much must have gone from the tenant into the escrow, with no more credit than was missing."""
        wanted = {f"tenants/{tenant_id}": -amount, f"escrows/{name}": amount}
        self._expect([entry for entry in booked if entry.kind == "ESCROW"], wanted)
        if any(entry.kind == "DEV_CREDIT" for entry in booked):
            if self._needs_deposit:
                self._fault("ROUTE", f"leases/{name} was credited although deposits are needed")
            if left := self.balances[f"tenants/{tenant_id}"]:
                self._fault("AMOUNT", f"leases/{name} was credited more than was missing: {left} are left")

    def _move(self, event: LeaseMoved) -> None:
        if (reckoning := self._reckoned(event.lease_id, event)) is not None:
            reckoning.gpus, self._places[event.lease_id] = _numbers(event.gpus, "<i4"), event.nodes
            self._share(event.lease_id, reckoning, reckoning.due(event.at_us), self._weights(event))

    def _share(self, lease_id: str, reckoning: Reckoning, due: int, weights: dict[str, Fraction]) -> None:
        """Where others earn from now on, those of before must have everything that was due."""
        if weights != reckoning.weights:
            self._list("CHARGE", lease_id, reckoning.faults_at_close(due))
            reckoning.share(due, weights)
        elif reckoning.paid != reckoning.paid_before:
            self._fault("CHARGE", f"leases/{lease_id}: paid out without a reason")

    def _change(self, event: Changing, booked: list[Entry]) -> None:
        name = event.lease_id
        if (reckoning := self._reckoned(name, event)) is None:
            return
        added = 0 if isinstance(event, LeaseShrunk) else event.amount_micro_usd
        back = 0 if isinstance(event, LeaseExtended) else event.refund_micro_usd
        self._check_set_aside(name, reckoning.tenant_id, added, booked)
        self._check_refund(name, reckoning, back, booked)
        reckoning.refunded -= back
        due, unused = reckoning.due(event.at_us), reckoning.unused(event.at_us)
        reckoning.refunded += back
        reckoning.escrowed += added
        if not due - 1 <= event.earned_micro_usd <= due or back > unused:
            told = f"{event.earned_micro_usd} earned and {back} back"
            self._fault("CHARGE", f"leases/{name}: {told}, of {due} due and {unused} unused")
        reckoning.earned = max(reckoning.earned, event.earned_micro_usd)
        self._share(name, reckoning, due, self._change_terms(event, reckoning, unused))

    def _change_terms(self, event: Changing, reckoning: Reckoning, unused: int) -> dict[str, Fraction]:
        """What is paid from now on; returns who earns."""
        prices = _numbers(event.prices_micro_usd_per_gpu_hour, "<i8")
        match event:
            case LeaseExtended():
                begins_s = reckoning.ends_s
                rows = reckoning.gpus, prices, event.profile, event.curve_from_s
                part = reckoning.stretches[0].gpu_milli
                added = Stretch(begins_s, begins_s + event.duration_s, *rows, gpu_milli=part)
                reckoning.stretches.append(added)
                off = abs(event.amount_micro_usd * 3_600 - added.left(begins_s))
                price_is_rounded = part < 1_000 and event.profile is None
                most = 3_600 + (event.duration_s if price_is_rounded else 0)
                if off > most or event.amount_micro_usd != sum(line.amount_micro_usd for line in event.lines):
                    self._fault("CHARGE", f"leases/{event.lease_id}: the added time costs something else")
                return reckoning.weights
            case LeaseShrunk():
                kept = [_numbers(column, "<i4") for column in event.kept]
                reckoning.stretches = [
                    each.keep(gpus) for each, gpus in zip(reckoning.stretches, kept, strict=True)
                ]
                reckoning.gpus, self._places[event.lease_id] = _numbers(event.gpus, "<i4"), event.nodes
                return self._weights(event)
            case LeaseRepriced():
                dearer = reckoning.reprice(event.at_us, prices)
                told = event.amount_micro_usd, event.refund_micro_usd
                if told != (max(dearer, 0), min(max(-dearer, 0), unused)):
                    self._fault("CHARGE", f"leases/{event.lease_id}: new prices add {dearer}, not {told}")
                return self._weighed(self._places[event.lease_id], reckoning.gpus, prices)

    def _notice(self, reckoning: Reckoning, event: LeaseReclaiming | LeaseSpared) -> None:
        """Where a notice is, all is paid back; one of a drain alone lets it run on until somebody ends it."""
        reckoning.has_notice, reckoning.reclaim_at_us = False, NEVER_US
        if isinstance(event, LeaseReclaiming):
            reckoning.has_notice = True
            reckoning.reclaim_at_us = NEVER_US if event.reason == "SUPPLIER_DRAINED" else event.reclaim_at_us

    def _settle(self, event: LeasesSettled) -> None:
        for lease_id in event.leases:
            reckoning = self._reckoned(lease_id, event)
            if reckoning is not None:
                self._list(
                    "CHARGE",
                    lease_id,
                    reckoning.faults_while_running(reckoning.due(min(event.at_us, reckoning.reclaim_at_us))),
                )
                reckoning.paid_before = reckoning.paid.copy()
            elif lease_id not in self.running:
                self._fault("STRAY", f"leases/{lease_id} is settled and not running")

    def _end(self, event: LeaseEnded, booked: list[Entry]) -> None:
        name, back = event.lease_id, event.refund_micro_usd
        reckoning = self._reckoned(name, event)
        if reckoning is None:
            return
        del self.running[name], self._places[name]
        self._check_refund(name, reckoning, back, booked)
        reckoning.refunded -= back
        unused = reckoning.unused(event.ended_at_us)
        in_full = event.reason in ALL_BACK or (reckoning.has_notice and event.reason not in NOT_BACK)
        least, most = unused if in_full else 0, 0 if event.reason in NOT_BACK else unused
        if not least <= back <= most:
            self._fault("CHARGE", f"leases/{name}: {back} went back of {unused} unused, {event.reason}")
        self._list("CHARGE", name, reckoning.faults_at_close(reckoning.charged - back))
        reckoning.refunded += back
        if reckoning.left:
            self._fault("ESCROW_LEFT", f"leases/{name} ended with {reckoning.left} neither paid nor back")

    def _check_refund(self, name: str, reckoning: Reckoning, amount: int, booked: list[Entry]) -> None:
        """So much, as the event says, must have gone back."""
        wanted = {f"escrows/{name}": -amount, f"tenants/{reckoning.tenant_id}": amount}
        self._expect([entry for entry in booked if entry.kind == "REFUND"], wanted)

    def _reckoned(self, lease_id: str, event: AnyEvent) -> Reckoning | None:
        """The lease, if it has an escrow; its money must then be there."""
        reckoning = self.running.get(lease_id)
        if reckoning is not None and event.money is None:
            self._fault("UNBOOKED", f"leases/{lease_id} has an escrow that nothing is done with")
        return reckoning

    def _weights(self, placed: Placing) -> dict[str, Fraction]:
        prices = _numbers(placed.prices_micro_usd_per_gpu_hour, "<i8")
        return self._weighed(placed.nodes, _numbers(placed.gpus, "<i4"), prices)

    def _weighed(self, nodes: bytes, gpus: Sequence[int], prices: Sequence[int]) -> dict[str, Fraction]:
        """The part of each supplier."""
        weights = Counter[str]()
        for node, count, price in zip(_numbers(nodes, "<i4"), gpus, prices, strict=True):
            weights[self._supplier[self._nodes[node]]] += count * (price if any(prices) else 1)
        whole = sum(weights.values())
        return {name: Fraction(weight, whole) for name, weight in weights.items() if weight}

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


def _numbers(column: bytes, kind: str) -> list[int]:
    numbers: list[int] = np.frombuffer(column, dtype=kind).tolist()
    return numbers


def checked(events: Iterable[AnyEvent], watch: Callable[[LedgerCheck], None] = lambda _: None) -> LedgerCheck:
    """A finished check of all events; `watch` sees it after each."""
    check = LedgerCheck()
    for sequence, event in enumerate(events, 1):
        check.follow(sequence, event)
        watch(check)
    check.finish()
    return check
