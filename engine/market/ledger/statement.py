"""Reading a statement by pages."""

from __future__ import annotations

from typing import NamedTuple

from engine.market.ledger.books import Books, Line, Statement

NO_LINES = Statement()


class Page(NamedTuple):
    """Lines of an account with the balances around them. `next_number`: of the next page's first line, if any."""

    lines: list[Line]
    opening_micro_usd: int
    closing_micro_usd: int
    next_number: int | None


def page_of(
    books: Books, account: str, start_us: int | None, end_us: int | None, first_number: int, size: int
) -> Page:
    """Lines in [start, end), `size` at most, from a number on; lines are numbered from 0 for ever."""
    statement = books.statements.get(account, NO_LINES)
    dropped, lines = statement.dropped, statement.lines
    first = max(first_number, dropped, 0 if start_us is None else statement.place_of(start_us))
    last = dropped + len(lines) if end_us is None else statement.place_of(end_us)
    shown = lines[first - dropped : max(first, min(first + size, last)) - dropped]
    opening = _balance_before(lines, first - dropped)
    closing = shown[-1].balance_micro_usd if shown else opening
    following = first + len(shown)
    return Page(shown, opening, closing, following if following < last else None)


def _balance_before(lines: list[Line], place: int) -> int:
    if place < len(lines):
        return lines[place].balance_micro_usd - lines[place].amount_micro_usd
    return lines[-1].balance_micro_usd if lines else 0
