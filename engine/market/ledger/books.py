"""The books: balances of all accounts, escrows of running leases, and the lines of statements.

Only events change them (`take`), by adding the amounts that they carry.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from itertools import islice, repeat, takewhile

import msgspec

from engine.market.ledger import accounts
from engine.market.ledger.entries import DEV_CREDIT, ESCROW, SETTLEMENT, Money, Span
from engine.market.ledger.rules import LedgerRules

SECOND_US = 1_000_000
TRIMMED_FROM = 512
"""A statement of fewer lines is not cut."""


class Escrow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A running lease's span, and what has been paid out of it, by account."""

    span: Span
    paid: dict[str, int]


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry as an account sees it. `balance_micro_usd`: after it."""

    at_us: int
    kind: str
    subject: str
    amount_micro_usd: int
    balance_micro_usd: int


@dataclass(slots=True)
class Statement:
    """The lines of an account by time; `dropped` older ones are forgotten."""

    lines: list[Line] = field(default_factory=list)
    dropped: int = 0

    def place_of(self, at_us: int) -> int:
        """Number of the first line at or after a time; lines are numbered from 0, forgotten ones included."""
        return self.dropped + bisect_left(self.lines, at_us, key=lambda line: line.at_us)

    def add(self, at_us: int, entries: Iterable[tuple[str, str, int]], oldest_us: int) -> None:
        """More lines, of (kind, subject, amount); older ones than that are forgotten."""
        lines = self.lines
        balance = lines[-1].balance_micro_usd if lines else 0
        for kind, subject, amount in entries:
            if lines and lines[0].at_us < oldest_us:
                self.trim(oldest_us)
            balance += amount
            lines.append(Line(at_us, kind, subject, amount, balance))

    def trim(self, oldest_us: int) -> None:
        """Drop the older half once all of it is too old: each line is moved at most once or twice."""
        half = len(self.lines) // 2
        if half * 2 >= TRIMMED_FROM and self.lines[half].at_us < oldest_us:
            del self.lines[:half]
            self.dropped += half


Balances = MutableMapping[str, int]
Escrows = MutableMapping[str, Escrow]


@dataclass(slots=True)
class Books:
    """`unsettled`: running leases with the time up to which they were settled, the longest ago first.

    `circulating_micro_usd`: deposited or credited, and not withdrawn; no balance is larger. `opened`: rules were
    set.
    """

    rules: LedgerRules = field(default_factory=LedgerRules)
    balances: dict[str, int] = field(default_factory=dict)
    escrows: dict[str, Escrow] = field(default_factory=dict)
    unsettled: dict[str, int] = field(default_factory=dict)
    statements: dict[str, Statement] = field(default_factory=dict)
    circulating_micro_usd: int = 0
    opened: bool = False

    def set_rules(self, rules: LedgerRules) -> None:
        """Go by other rules from now on; what runs keeps its parts."""
        self.rules, self.opened = rules, True

    def take(self, at_us: int, money: Money) -> None:
        """Post what an event carries."""
        post(self.balances, self.escrows, money)
        self.circulating_micro_usd += entering(money)
        self._note_lines(at_us, money)
        for lease_id in (*(span.lease_id for span in money.spans), *money.settled):
            self.unsettled.pop(lease_id, None)
            self.unsettled[lease_id] = at_us
        for lease_id in money.closed:
            del self.balances[accounts.escrow(lease_id)]
            del self.escrows[lease_id]
            del self.unsettled[lease_id]

    def begin(self, at_us: int, spans: list[Span], totals: list[int], credited: list[int]) -> None:
        """Post the beginnings of leases of one tenant: what each costs is set aside, what it lacked being
        credited.

        The same as `take` of `bookings.set_aside` and the span of each.
        """
        lease_ids = [span.lease_id for span in spans]
        self.escrows.update((span.lease_id, Escrow(span, {})) for span in spans)
        self.balances.update(zip(map(accounts.escrow, lease_ids), totals, strict=True))
        self.unsettled.update(zip(lease_ids, repeat(at_us)))
        entered = sum(credited)
        if any(totals):
            tenant = accounts.tenant(spans[0].tenant_id)
            self.balances[tenant] = self.balances.get(tenant, 0) + entered - sum(totals)
            entries = (
                (kind, lease_id, amount)
                for lease_id, total, credit in zip(lease_ids, totals, credited, strict=True)
                for kind, amount in ((DEV_CREDIT, credit), (ESCROW, -total))
                if amount
            )
            self.statements.setdefault(tenant, Statement()).add(at_us, entries, self._oldest_us(at_us))
        if entered:
            account = accounts.dev_credit(spans[0].tenant_id)
            self.balances[account] = self.balances.get(account, 0) - entered
            self.circulating_micro_usd += entered

    def due_for_settlement(self, now_us: int, most: int) -> list[str]:
        """Leases that were not settled for a period, the longest ago first; the first so many."""
        oldest_us = now_us - self.rules.settlement_period_s * SECOND_US
        due = takewhile(lambda settled: settled[1] <= oldest_us, self.unsettled.items())
        return [lease_id for lease_id, _ in islice(due, most)]

    def is_settlement_due(self, now_us: int) -> bool:
        """Whether any lease was not settled for a period."""
        oldest_us = next(iter(self.unsettled.values()), None)
        return oldest_us is not None and oldest_us <= now_us - self.rules.settlement_period_s * SECOND_US

    def facts(self) -> tuple[object, ...]:
        """Everything in it, for a hash."""
        statements = [(name, each.dropped, each.lines) for name, each in sorted(self.statements.items())]
        named = (self.rules, self.opened, self.circulating_micro_usd, sorted(self.balances.items()))
        return *named, sorted(self.escrows.items()), list(self.unsettled.items()), statements

    def _note_lines(self, at_us: int, money: Money) -> None:
        oldest_us = self._oldest_us(at_us)
        for account, kind, subject, amount in _lines(money):
            self.statements.setdefault(account, Statement()).add(at_us, ((kind, subject, amount),), oldest_us)

    def _oldest_us(self, at_us: int) -> int:
        """How old lines of statements are kept."""
        return at_us - self.rules.statement_kept_s * SECOND_US


def post(balances: Balances, escrows: Escrows, money: Money) -> None:
    """Add the legs of the entries, and begin the spans."""
    for entry in money.entries:
        for account, amount in entry.legs:
            balances[account] = balances.get(account, 0) + amount
        if entry.kind == SETTLEMENT:
            escrows[entry.subject] = _paid(escrows[entry.subject], entry.legs)
    for span in money.spans:
        escrows[span.lease_id] = Escrow(span, {})
        balances.setdefault(accounts.escrow(span.lease_id), 0)


def entering(money: Money) -> int:
    """What comes in from outside, less what leaves."""
    legs = (leg for entry in money.entries for leg in entry.legs)
    return -sum(amount for account, amount in legs if accounts.is_outside(account))


def _paid(escrow: Escrow, legs: Iterable[tuple[str, int]]) -> Escrow:
    paid = dict(escrow.paid)
    for account, amount in legs:
        if not account.startswith(accounts.ESCROWS):
            paid[account] = paid.get(account, 0) + amount
    return Escrow(escrow.span, paid)


def _lines(money: Money) -> Iterable[tuple[str, str, str, int]]:
    for entry in money.entries:
        kind = sys.intern(entry.kind)
        for account, amount in entry.legs:
            if accounts.has_statement(account):
                yield account, kind, entry.subject, amount
