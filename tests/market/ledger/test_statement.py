"""Statements: what is kept, for how long, and what a page says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.market.ledger.books import TRIMMED_FROM, Books
from engine.market.ledger.entries import DEPOSIT, Entry, Money
from engine.market.ledger.rules import LedgerRules
from engine.market.ledger.statement import page_of

DAY_US = 24 * 3_600 * 1_000_000
ACCOUNT = "tenants/alice"


def deposited(books: Books, at_us: int, amount: int) -> None:
    books.take(at_us, Money([Entry(DEPOSIT, "t", [("outside/alice", -amount), (ACCOUNT, amount)])]))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 9), st.data())
def test_pages_are_the_lines_between_two_times(gaps: list[int], size: int, data: st.DataObject) -> None:
    """Law: pages one after another give each line in [start, end) once, and the balances around them add up."""
    books, now, lines = Books(), 0, []
    for number, gap in enumerate(gaps, 1):
        now += gap
        deposited(books, now, number)
        lines.append((now, number))
    start = data.draw(st.none() | st.integers(0, now + 2))
    end = data.draw(st.none() | st.integers(0, now + 2))
    wanted = [line for line in lines if (start is None or line[0] >= start) and (end is None or line[0] < end)]
    found, number = [], 0
    while True:
        page = page_of(books, ACCOUNT, start, end, number, size)
        found += [(line.at_us, line.amount_micro_usd) for line in page.lines]
        assert page.closing_micro_usd - page.opening_micro_usd == sum(line.amount_micro_usd for line in page.lines)
        if page.next_number is None:
            break
        number = page.next_number
    assert found == wanted


def test_old_lines_are_forgotten_and_balances_stay() -> None:
    """Law: a statement is bounded by its retention; numbers, balances and pages of what is left stay the same."""
    books = Books(rules=LedgerRules(statement_kept_s=10 * 24 * 3_600))
    for day in range(3_000):
        deposited(books, day * DAY_US // 10, 7)
    statement = books.statements[ACCOUNT]
    assert len(statement.lines) < TRIMMED_FROM + 2 and statement.dropped + len(statement.lines) == 3_000
    assert statement.lines[0].at_us <= 2_990 * DAY_US // 10 - 10 * DAY_US
    page = page_of(books, ACCOUNT, None, None, 0, 10)
    assert page.opening_micro_usd == 7 * statement.dropped
    assert page.next_number == statement.dropped + 10
    assert page_of(books, "tenants/nobody", None, None, 0, 10) == ([], 0, 0, None)
