"""From events to the entries that they cause: what is added to every decision before it is recorded.

The events of one decision are booked one after another, each on the books as the ones before it leave them. A new
kind of event that moves money is one more case in `_Draft.money_of`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable

import msgspec
import numpy as np

from engine.domain.errors import InsufficientFunds
from engine.domain.limits import MAX_TOTAL_MICRO_USD
from engine.market.events import (
    AnyEvent,
    FundsDeposited,
    FundsWithdrawn,
    LeaseEnded,
    LeaseMoved,
    LeasesSettled,
    LeaseStarted,
    Terms,
)
from engine.market.inventory import Inventory
from engine.market.ledger import accounts, entries
from engine.market.ledger.books import Escrow, entering, post
from engine.market.ledger.charging import charged_micro_usd, parts_at_close, parts_due, started_s
from engine.market.ledger.entries import Entry, Money, Span
from engine.market.state import MarketState

SECOND_US = 1_000_000


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


def refund_micro_usd(span: Span, event: LeaseEnded, settled_at_us: int) -> int:
    """What the tenant gets back when its lease ends: the seconds that did not start, at the price paid.

    What was settled stays settled, also if the end is dated back before it.
    """
    return span.total_micro_usd - charged_micro_usd(span, max(event.ended_at_us, settled_at_us))


MOVES_MONEY = (LeaseStarted, LeaseMoved, LeaseEnded, LeasesSettled, FundsDeposited, FundsWithdrawn)


class _Draft:
    """The books as they will be; what lies below is not touched, and what is last is not posted in vain."""

    def __init__(self, state: MarketState) -> None:
        self._inventory, self._rules = state.inventory, state.books.rules
        self._settled_at_us = state.books.unsettled
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
            case LeaseMoved():
                return self._move(event)
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
        terms, total = event.terms, event.terms.total_micro_usd
        account, escrow = accounts.tenant(event.tenant_id), accounts.escrow(event.lease_id)
        booked = [*self._credit(event, account, total)]
        if total:
            booked.append(_entry(entries.ESCROW, event.lease_id, [(account, -total)], escrow))
        suppliers, weights = earners(self._inventory, terms)
        span = Span(
            event.lease_id,
            event.tenant_id,
            event.at_us,
            event.ends_at_us,
            total - terms.spread_micro_usd,
            terms.spread_micro_usd,
            suppliers,
            weights,
            terms.network_fee_ppm,
            self._rules.burn_ppm,
            self._rules.make_whole_ppm,
        )
        return Money(booked, [span])

    def _credit(self, event: LeaseStarted, account: str, needed: int) -> Iterable[Entry]:
        missing = needed - self._balances.get(account, 0)
        if missing <= 0:
            return
        if self._rules.require_deposit or self._circulating + missing > MAX_TOTAL_MICRO_USD:
            raise insufficient_funds(needed, needed - missing)
        legs = [(accounts.dev_credit(event.tenant_id), -missing)]
        yield _entry(entries.DEV_CREDIT, event.lease_id, legs, account)

    def _move(self, event: LeaseMoved) -> Money | None:
        escrow = self._escrows.get(event.lease_id)
        if escrow is None:
            return None
        old, at_us = escrow.span, event.at_us
        charged = charged_micro_usd(old, at_us)
        suppliers, weights = earners(self._inventory, event)
        span = msgspec.structs.replace(
            old,
            from_us=old.from_us + started_s(old, at_us) * SECOND_US,
            amount_micro_usd=old.total_micro_usd - charged,
            upfront_micro_usd=0,
            suppliers=suppliers,
            weights=weights,
        )
        return Money(_settlement(escrow, parts_at_close(old, charged)), [span])

    def _end(self, event: LeaseEnded) -> Money | None:
        escrow = self._escrows.get(event.lease_id)
        if escrow is None:
            return None
        span = escrow.span
        refund = refund_micro_usd(span, event, self._settled_at_us.get(span.lease_id, span.from_us))
        booked = _settlement(escrow, parts_at_close(span, span.total_micro_usd - refund))
        if refund:
            legs = [(accounts.escrow(span.lease_id), -refund)]
            booked.append(_entry(entries.REFUND, span.lease_id, legs, accounts.tenant(span.tenant_id)))
        return Money(booked, closed=[span.lease_id])

    def _settle(self, event: LeasesSettled) -> Money:
        booked: list[Entry] = []
        for lease_id in event.leases:
            escrow = self._escrows[lease_id]
            charged = charged_micro_usd(escrow.span, event.at_us)
            booked += _settlement(escrow, parts_due(escrow.span, charged))
        return Money(booked, settled=event.leases)


def earners(inventory: Inventory, placed: Terms | LeaseMoved) -> tuple[list[str], list[int]]:
    """(suppliers by name, the weight of each): GPUs times price on its nodes; GPUs alone if all prices are 0."""
    codes = inventory.nodes.supplier[np.frombuffer(placed.nodes, dtype="<i4")]
    gpus = np.frombuffer(placed.gpus, dtype="<i4").astype(np.int64)
    prices = np.frombuffer(placed.prices_micro_usd_per_gpu_hour, dtype="<i8")
    names = inventory.suppliers.names
    weights = np.zeros(len(names), dtype=np.int64)
    np.add.at(weights, codes, gpus * prices if prices.any() else gpus)
    own = np.flatnonzero(weights)
    return [names[code] for code in own.tolist()], weights[own].tolist()


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
    total = sum(amount for _, amount in legs)
    lease_id = escrow.span.lease_id
    return [Entry(entries.SETTLEMENT, lease_id, [(accounts.escrow(lease_id), -total), *legs])]


def _entry(kind: str, subject: str, legs: list[tuple[str, int]], into: str) -> Entry:
    """An entry that puts what the legs take out into an account."""
    return Entry(kind, subject, [*legs, (into, -sum(amount for _, amount in legs))])
