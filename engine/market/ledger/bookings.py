"""From events to the entries that they cause: what is added to every decision before it is recorded.

The events of one decision are booked one after another, each on the books as the ones before it leave them. A new
kind of event that moves money is one more case in `_Draft.money_of`.
"""

from __future__ import annotations

from collections import ChainMap

import msgspec
import numpy as np

from engine.domain.errors import AuditFailed, InsufficientFunds
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.market.events import (
    AnyEvent,
    FundsDeposited,
    FundsWithdrawn,
    LeaseEnded,
    LeaseExtended,
    LeaseMoved,
    LeaseRepriced,
    LeaseShrunk,
    LeasesSettled,
    LeaseStarted,
)
from engine.market.inventory import Inventory
from engine.market.lease_terms import Terms
from engine.market.ledger import accounts, entries
from engine.market.ledger.books import Escrow, entering, post
from engine.market.ledger.charging import parts_at_close, parts_due
from engine.market.ledger.entries import Entry, Money, Span
from engine.market.ledger.purse import Purse, spendable
from engine.market.refunds import due_micro_usd
from engine.market.state import Lease, MarketState
from solvers.shares import shares_of


def with_money(state: MarketState, events: list[AnyEvent]) -> list[AnyEvent]:
    """The events with what each moves in the books; InsufficientFunds if a tenant lacks what they take from it.

    A lease that began before there were books has no escrow; nothing is booked for it.
    """
    draft: _Draft | None = None
    booked = []
    for event in events:
        if isinstance(event, MOVES_MONEY):
            draft = draft or _Draft(state)
            money = draft.take(event)
            event = msgspec.structs.replace(event, money=money) if money is not None else event
        booked.append(event)
    return booked


MOVES_MONEY = (
    *(LeaseStarted, LeaseMoved, LeaseExtended, LeaseShrunk, LeaseRepriced, LeaseEnded),
    *(LeasesSettled, FundsDeposited, FundsWithdrawn),
)


class _Draft:
    """The books as they will be; what lies below is not touched, and what is last is not posted in vain."""

    def __init__(self, state: MarketState) -> None:
        self._state, self._rules = state, state.books.rules
        self._circulating = state.books.circulating_micro_usd
        self._balances = ChainMap({}, state.books.balances)
        self._escrows: ChainMap[str, Escrow] = ChainMap({}, state.books.escrows)
        self._before: Money | None = None

    def take(self, event: AnyEvent) -> Money | None:
        """What the event moves, on the books as the events taken before leave them."""
        if self._before is not None:
            post(self._balances, self._escrows, self._before)
            self._circulating += entering(self._before)
        self._before = self.money_of(event)
        return self._before

    def money_of(self, event: AnyEvent) -> Money | None:
        """What the event moves; None if it concerns a lease without an escrow."""
        match event:
            case LeaseStarted():
                return self._start(event)
            case LeaseMoved() | LeaseExtended() | LeaseShrunk() | LeaseRepriced():
                escrow = self._escrows.get(event.lease_id)
                return None if escrow is None else self._change(escrow, event)
            case LeaseEnded():
                return self._end(event)
            case LeasesSettled():
                return self._settle(event)
            case FundsDeposited():
                legs = [(accounts.outside(event.tenant_id), -event.amount_micro_usd)]
                return Money([_entry(entries.DEPOSIT, event.transfer_id, legs, accounts.tenant(event.tenant_id))])
            case FundsWithdrawn():
                legs = [(accounts.tenant(event.tenant_id), -event.amount_micro_usd)]
                return Money(
                    [_entry(entries.WITHDRAWAL, event.transfer_id, legs, accounts.outside(event.tenant_id))]
                )
        return None

    def _start(self, event: LeaseStarted) -> Money:
        terms, tenant_id, lease_id = event.terms, event.tenant_id, event.lease_id
        suppliers, weights = earners(self._state.inventory, terms)
        parts = terms.network_fee_ppm, self._rules.burn_ppm, self._rules.make_whole_ppm
        span = Span(lease_id, tenant_id, 0, suppliers, weights, *parts)
        return Money(self._set_aside(lease_id, tenant_id, terms.total_micro_usd), [span])

    def _set_aside(self, lease_id: str, tenant_id: str, amount: int) -> list[Entry]:
        """From the tenant into the escrow; what it lacks is credited, or refused."""
        missing = max(0, amount - self._balances.get(accounts.tenant(tenant_id), 0))
        if missing and (self._rules.require_deposit or self._circulating + missing > MAX_TOTAL_MICRO_USD):
            raise insufficient_funds(amount, amount - missing)
        return set_aside(lease_id, tenant_id, amount, missing)

    def _change(self, escrow: Escrow, event: LeaseMoved | LeaseExtended | LeaseShrunk | LeaseRepriced) -> Money:
        """What a change adds or gives back. If others earn by it, what is due so far goes to those of before."""
        span, lease = escrow.span, self._state.leases[event.lease_id]
        booked, spans = list[Entry](), list[Span]()
        if isinstance(event, LeaseExtended | LeaseRepriced):
            booked += self._set_aside(span.lease_id, span.tenant_id, event.amount_micro_usd)
        shares = self._shares_after(event, lease)
        if shares is not None and shares != (span.suppliers, span.weights):
            due = due_micro_usd(self._state.inventory, lease, event.at_us)
            booked += _settlement(escrow, parts_at_close(span, due - span.closed_micro_usd))
            suppliers, weights = shares
            spans = [msgspec.structs.replace(span, closed_micro_usd=due, suppliers=suppliers, weights=weights)]
        if isinstance(event, LeaseShrunk | LeaseRepriced):
            booked += _refund(span, event.refund_micro_usd)
        return Money(booked, spans)

    def _shares_after(
        self, event: LeaseMoved | LeaseExtended | LeaseShrunk | LeaseRepriced, lease: Lease
    ) -> tuple[list[str], list[int]] | None:
        """Who earns from now on; None: as before, as an extension runs where the lease does."""
        match event:
            case LeaseExtended():
                return None
            case LeaseRepriced():
                prices = event.prices_micro_usd_per_gpu_hour
                placed = msgspec.structs.replace(lease.standing, prices_micro_usd_per_gpu_hour=prices)
                return earners(self._state.inventory, placed)
        return earners(self._state.inventory, event)

    def _end(self, event: LeaseEnded) -> Money | None:
        escrow = self._escrows.get(event.lease_id)
        if escrow is None:
            return None
        span, lease = escrow.span, self._state.leases[event.lease_id]
        charged = lease.charged_micro_usd - event.refund_micro_usd
        booked = _settlement(escrow, parts_at_close(span, charged - span.closed_micro_usd))
        return Money([*booked, *_refund(span, event.refund_micro_usd)], closed=[span.lease_id])

    def _settle(self, event: LeasesSettled) -> Money:
        booked: list[Entry] = []
        for lease_id in event.leases:
            escrow = self._escrows[lease_id]
            lease = self._state.leases[lease_id]
            due = due_micro_usd(self._state.inventory, lease, min(event.at_us, lease.due_at_us))
            booked += _settlement(escrow, parts_due(escrow.span, due - escrow.span.closed_micro_usd))
        return Money(booked, settled=event.leases)


def set_aside(lease_id: str, tenant_id: str, amount: int, credit: int) -> list[Entry]:
    """From a tenant into an escrow, what it lacks having been credited."""
    account, booked = accounts.tenant(tenant_id), list[Entry]()
    if credit:
        booked.append(_entry(entries.DEV_CREDIT, lease_id, [(accounts.dev_credit(tenant_id), -credit)], account))
    if amount:
        booked.append(_entry(entries.ESCROW, lease_id, [(account, -amount)], accounts.escrow(lease_id)))
    return booked


def credits_for(state: MarketState, tenant_id: str, amounts: list[int]) -> list[int]:
    """What a tenant has to be credited for each of some amounts in turn, up to the first that is refused."""
    rules, circulating = state.books.rules, state.books.circulating_micro_usd
    balance, credited = state.books.balances.get(accounts.tenant(tenant_id), 0), list[int]()
    for amount in amounts:
        missing = max(0, amount - balance)
        if missing and (rules.require_deposit or circulating + missing > MAX_TOTAL_MICRO_USD):
            break
        credited.append(missing)
        balance, circulating = balance + missing - amount, circulating + missing
    return credited


def earners(inventory: Inventory, placed: Terms | LeaseMoved | LeaseShrunk) -> tuple[list[str], list[int]]:
    """(suppliers by name, the weight of each): GPUs times price on its nodes, without a common divisor; GPUs alone
    if all prices are 0."""
    nodes, gpus = (np.frombuffer(column, dtype="<i4") for column in (placed.nodes, placed.gpus))
    prices = np.frombuffer(placed.prices_micro_usd_per_gpu_hour, dtype="<i8")
    supplier, names = inventory.nodes.supplier, inventory.suppliers.names
    if nodes.size == 1:
        return [names[supplier[nodes[0]]]], [1]
    codes, weights = shares_of(supplier, len(names), nodes, gpus, prices)
    return [names[code] for code in codes.tolist()], weights.tolist()


def check_funds(state: MarketState, tenant_id: str, total_micro_usd: int) -> None:
    """InsufficientFunds if the tenant cannot pay so much."""
    if not Purse(state, tenant_id).pay(total_micro_usd):
        raise insufficient_funds(total_micro_usd, spendable(state, tenant_id))


def insufficient_funds(needed: int, available: int) -> InsufficientFunds:
    """The refusal, with the amount that is missing."""
    missing = needed - available
    return InsufficientFunds(
        f"{needed} micro-USD are needed and {available} are there: {missing} are missing; deposit them first",
        needed_micro_usd=str(needed),
        available_micro_usd=str(available),
        missing_micro_usd=str(missing),
    )


def _settlement(escrow: Escrow, parts: dict[str, int]) -> list[Entry]:
    """What of the parts is not yet paid, as at most one entry."""
    legs = [(account, part - escrow.paid.get(account, 0)) for account, part in parts.items()]
    legs = [(account, amount) for account, amount in legs if amount]
    if not legs:
        return []
    lease_id = escrow.span.lease_id
    if any(amount < 0 for _, amount in legs):
        raise AuditFailed(f"leases/{lease_id} would take back what its suppliers were paid")
    total = sum(amount for _, amount in legs)
    return [Entry(entries.SETTLEMENT, lease_id, [(accounts.escrow(lease_id), -total), *legs])]


def _refund(span: Span, amount: int) -> list[Entry]:
    """What goes back to the tenant, as at most one entry."""
    legs = [(accounts.escrow(span.lease_id), -amount)]
    return [_entry(entries.REFUND, span.lease_id, legs, accounts.tenant(span.tenant_id))] if amount else []


def _entry(kind: str, subject: str, legs: list[tuple[str, int]], into: str) -> Entry:
    """An entry that puts what the legs take out into an account."""
    return Entry(kind, subject, [*legs, (into, -sum(amount for _, amount in legs))])
