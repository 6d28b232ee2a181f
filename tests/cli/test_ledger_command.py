"""`walras ledger`: deposits, statements, and proving the books of a directory."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from engine.cli.amounts import micro_usd_of
from engine.domain.errors import InvalidInput
from engine.market.commands import DepositFunds
from engine.market.events import FundsDeposited, LeaseEnded, encode
from engine.market.ledger.entries import DEPOSIT, Entry, Money
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from tests.cli.conftest import Walras
from tests.service.loopback import Book, Clock


def test_deposit_spend_and_statement(walras: Walras, target: str, fleet_file: Path) -> None:
    """From the shell as over gRPC: what goes in, what a lease sets aside, what comes back."""
    here = ("--target", target, "--tenant", "payer")
    assert walras("fleet", "load", fleet_file, "--target", target).code == 0
    assert "DEPOSIT of $1,000.50" in walras("ledger", "deposit", "1,000.50", *here).out
    lease = json.loads(walras("deploy", "--gpu-count", 8, "--hours", 2, *here, "--json").out)
    balance = json.loads(walras("ledger", "balance", *here, "--json").out)
    assert balance["balance_micro_usd"] == 1_000_500_000 - lease["total_micro_usd"]
    assert balance["escrow_micro_usd"] == lease["total_micro_usd"]
    assert walras("lease", "release", lease["lease_id"], *here).code == 0
    entries = json.loads(walras("ledger", "statement", *here, "--json").out)["entries"]
    assert [entry["kind"] for entry in entries] == ["DEPOSIT", "ESCROW", "REFUND"]
    earned = json.loads(
        walras("ledger", "balance", "--supplier", "--target", target, "--tenant", "s0", "--json").out
    )
    assert earned["balance_micro_usd"] > 0
    assert "3 entries" in walras("ledger", "statement", "--start", "2020-01-01", *here).out
    assert "0 entries" in walras("ledger", "statement", "--end", "2020-01-01T00:00:01", *here).out
    assert "to spend" in walras("ledger", "balance", *here).out
    assert "earned" in walras("ledger", "balance", "--supplier", *here).out
    poor = walras("ledger", "withdraw", "1000000", *here)
    assert poor.code == 1 and "INSUFFICIENT_FUNDS" in poor.err
    assert "WITHDRAWAL of $0.000001" in walras("ledger", "withdraw", "0.000001", *here).out
    assert walras("ledger", "deposit", "ten", *here).code == 2


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "0.0000001", "NaN", "Infinity", "1e30"])
def test_what_is_no_amount(text: str) -> None:
    """Law 7: only dollars to the micro-dollar pass the border."""
    with pytest.raises(InvalidInput):
        micro_usd_of(text)


@pytest.mark.parametrize(("text", "micro"), [("1", 10**6), ("$2.50", 2_500_000), ("0.000001", 1), ("1e3", 10**9)])
def test_what_is_an_amount(text: str, micro: int) -> None:
    assert micro_usd_of(text) == micro


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A directory with one deposit."""
    engine = Engine(tmp_path / "data", Book(), Clock())
    engine.submit(DepositFunds("alice", 5), NO_STOPWATCH)
    engine.close()
    return tmp_path / "data"


def test_books_that_hold(walras: Walras, books: Path, tmp_path: Path) -> None:
    run = walras("ledger", "verify", "--data-dir", books)
    assert run.code == 0 and "hold" in run.out and "deposits" in run.out
    assert json.loads(walras("ledger", "verify", "--data-dir", books, "--json").out)["holds"] is True
    assert walras("ledger", "verify", "--data-dir", tmp_path / "none").code == 2


def test_books_that_do_not_hold(walras: Walras, books: Path) -> None:
    """Law 6: exit 1, and every violation named by the event that has it, though the hash chain is whole."""
    engine = Engine(books, Book(), Clock())
    for legs in ([("outside/bob", -5), ("tenants/bob", 6)], [("outside/bob", -7), ("tenants/bob", 7)]):
        money = Money([Entry(DEPOSIT, "t", legs)])
        event = FundsDeposited(at_us=0, transfer_id="t", tenant_id="bob", amount_micro_usd=5, money=money)
        engine.journal.append([encode(event)], 0)
    charge = Entry("SETTLEMENT", "l-1", [("escrows/l-1", -3), ("suppliers/acme", 3)])
    charged = LeaseEnded(at_us=0, lease_id="l-1", reason="RELEASED", ended_at_us=0, money=Money([charge, charge]))
    engine.journal.append([encode(charged)], 0)
    engine.close()
    run = walras("ledger", "verify", "--data-dir", books, "--json")
    report = json.loads(run.out)
    assert run.code == 1 and report["holds"] is False
    found = {(each["sequence"], each["code"]) for each in report["violations"]}
    assert found >= {(2, "UNBALANCED"), (2, "AMOUNT"), (3, "AMOUNT"), (4, "NEGATIVE"), (4, "STRAY")}
    assert "UNBALANCED" in run.err


def test_the_operator_deposits_into_a_directory(walras: Walras, books: Path) -> None:
    """Without development mode, money comes in and goes out by whoever has the files, durably; never behind a
    running engine's back."""
    here = ("--tenant", "alice", "--data-dir", books)
    assert "alice now has $2.000005" in walras("ledger", "deposit", "2", *here, "--idempotency-key", "k").out
    again = walras("ledger", "deposit", "2", *here, "--idempotency-key", "k", "--json")
    assert json.loads(again.out) == {"tenant_id": "alice", "balance_micro_usd": 2_000_005}
    assert walras("ledger", "withdraw", "3", *here).code == 1
    assert "$0.00 to spend" in walras("ledger", "withdraw", "2.000005", *here).out
    engine = Engine(books, Book(), Clock())
    assert engine.state.version == 3
    assert walras("ledger", "deposit", "2", *here).code == 3
    engine.close()
    assert walras("ledger", "verify", "--data-dir", books).code == 0


def test_a_damaged_journal_is_a_no(walras: Walras, books: Path) -> None:
    with sqlite3.connect(books / "journal.sqlite") as connection:
        connection.execute("update journal_entry set payload = x'00'")
    assert walras("ledger", "verify", "--data-dir", books).code == 1
