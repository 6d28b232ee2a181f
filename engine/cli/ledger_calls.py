"""The calls behind `walras ledger`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from walras.v1 import ledger_service_pb2 as pb
from walras.v1 import ledger_service_pb2_grpc

from engine.cli.amounts import exact_usd, micro_usd_of, moment
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import plain
from engine.cli.screen import answers, print_json
from engine.cli.text_table import Row, pair_table, text_table
from engine.service.ledger_transfer import deposit_offline, withdraw_offline

PAGE_SIZE = 1_000
TENANT, SUPPLIER = "TENANT", "SUPPLIER"
HEADINGS: tuple[Row, Row] = (("time", "what", "for"), ("amount", "balance"))


def show_balance(connection: Connection, of_supplier: bool, as_json: bool) -> None:
    """Show what the account holds."""
    call = pb.GetBalanceRequest(account_kind=_kind(of_supplier))
    with connection.channel() as channel:
        balance = _stub(channel).GetBalance(call, **_said(connection))
    if as_json:
        print_json(plain(balance))
    else:
        answers().print(pair_table("account", _balance_rows(balance)))


def show_statement(
    connection: Connection, of_supplier: bool, start: datetime | None, end: datetime | None, as_json: bool
) -> None:
    """Show all entries between two times."""
    call = pb.ListEntriesRequest(account_kind=_kind(of_supplier), page_size=PAGE_SIZE)
    if start is not None:
        call.start_time_us = _time_us(start)
    if end is not None:
        call.end_time_us = _time_us(end)
    with connection.channel() as channel:
        entries = list(_all_entries(channel, connection, call))
    if as_json:
        print_json({"entries": [plain(entry) for entry in entries]})
    else:
        answers().print(text_table(f"{len(entries):,} entries", *HEADINGS, map(_row, entries)))


def deposit_funds(
    connection: Connection, amount: str, data_dir: Path | None, key: str | None, as_json: bool
) -> None:
    """Deposit, and say what came of it."""
    call = pb.DepositRequest(amount_micro_usd=micro_usd_of(amount), idempotency_key=key or uuid.uuid4().hex)
    if data_dir is not None:
        return _show_offline(deposit_offline(data_dir, connection.tenant, call), connection.tenant, as_json)
    call.account = f"tenants/{connection.tenant}"
    with connection.channel() as channel:
        return _show_transfer(_stub(channel).Deposit(call, **_said(connection)), as_json)


def withdraw_funds(
    connection: Connection, amount: str, data_dir: Path | None, key: str | None, as_json: bool
) -> None:
    """Withdraw, and say what came of it."""
    call = pb.WithdrawRequest(amount_micro_usd=micro_usd_of(amount), idempotency_key=key or uuid.uuid4().hex)
    if data_dir is not None:
        return _show_offline(withdraw_offline(data_dir, connection.tenant, call), connection.tenant, as_json)
    call.account = f"tenants/{connection.tenant}"
    with connection.channel() as channel:
        return _show_transfer(_stub(channel).Withdraw(call, **_said(connection)), as_json)


def _all_entries(
    channel: grpc.Channel, connection: Connection, call: pb.ListEntriesRequest
) -> Iterator[pb.StatementEntry]:
    while True:
        page = _stub(channel).ListEntries(call, **_said(connection))
        yield from page.entries
        if not page.next_page_token:
            return
        call.page_token = page.next_page_token


def _show_transfer(transfer: pb.Transfer, as_json: bool) -> None:
    if as_json:
        print_json(plain(transfer))
    else:
        answers().print(f"{transfer.name}: {transfer.kind} of {exact_usd(transfer.amount_micro_usd)}")


def _show_offline(balance_micro_usd: int, tenant_id: str, as_json: bool) -> None:
    if as_json:
        print_json({"tenant_id": tenant_id, "balance_micro_usd": balance_micro_usd})
    else:
        answers().print(f"{tenant_id} now has {exact_usd(balance_micro_usd)} to spend")


def _balance_rows(balance: pb.Balance) -> list[tuple[str, str]]:
    if balance.account_kind == SUPPLIER:
        return [("earned", exact_usd(balance.balance_micro_usd))]
    return [
        ("to spend", exact_usd(balance.balance_micro_usd)),
        ("set aside for leases", exact_usd(balance.escrow_micro_usd)),
        ("can be withdrawn", exact_usd(balance.withdrawable_micro_usd)),
        ("credited (development)", exact_usd(balance.dev_credit_micro_usd)),
    ]


def _row(entry: pb.StatementEntry) -> Row:
    money = exact_usd(entry.amount_micro_usd), exact_usd(entry.balance_micro_usd)
    return moment(entry.time_us), entry.kind, entry.subject, *money


def _stub(channel: grpc.Channel) -> ledger_service_pb2_grpc.LedgerServiceStub:
    return ledger_service_pb2_grpc.LedgerServiceStub(channel)


def _said(connection: Connection) -> dict[str, Any]:
    return {"timeout": CALL_TIMEOUT_S, "metadata": connection.metadata}


def _kind(of_supplier: bool) -> str:
    return SUPPLIER if of_supplier else TENANT


def _time_us(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp()) * 1_000_000
