"""LedgerService: balances, statements, deposits and withdrawals of the caller."""

from __future__ import annotations

from typing import Any

from walras.v1 import ledger_service_pb2 as pb
from walras.v1.ledger_service_pb2_grpc import LedgerServiceServicer

from engine.domain.errors import InvalidInput, Refused, Violation
from engine.market.commands import DepositFunds, WithdrawFunds
from engine.market.decide import subject_of
from engine.market.events import AnyEvent, FundsDeposited, FundsWithdrawn
from engine.market.ledger.entries import DEPOSIT, WITHDRAWAL
from engine.market.ledger.statement import page_of
from engine.market.state import MarketState
from engine.market.stopwatch import NO_STOPWATCH
from engine.service import ledger_codec as codec
from engine.service.engine import Engine
from engine.service.fields import Checks, idempotency_key, page_size, page_start
from engine.service.identity import calling_tenant


class LedgerService(LedgerServiceServicer):
    """Thin: parse, submit or read, answer. A caller reaches its own accounts only."""

    def __init__(self, engine: Engine, dev: bool) -> None:
        """`dev`: callers may move money in and out themselves; elsewhere that is the operator's to do."""
        self._engine, self._dev = engine, dev

    async def GetBalance(self, request: pb.GetBalanceRequest, context: Any) -> pb.Balance:  # noqa: N802
        """What the caller has."""
        kind, caller = codec.account_kind(request.account_kind), calling_tenant()
        return await self._engine.read(lambda state: codec.balance_message(state, kind, caller))

    async def ListEntries(  # noqa: N802
        self, request: pb.ListEntriesRequest, context: Any
    ) -> pb.ListEntriesResponse:
        """The caller's statement, oldest first."""
        caller, checks = calling_tenant(), Checks()
        kind = checks.read(codec.account_kind, request.account_kind)
        size = checks.read(page_size, request.page_size)
        first = checks.read(_first_number, request.page_token)
        checks.done()
        assert kind is not None and size is not None and first is not None
        start_us = request.start_time_us if request.HasField("start_time_us") else None
        end_us = request.end_time_us if request.HasField("end_time_us") else None

        def answer(state: MarketState) -> pb.ListEntriesResponse:
            account = codec.account_of(kind, caller)
            return codec.page_message(state.books, page_of(state.books, account, start_us, end_us, first, size))

        return await self._engine.read(answer)

    async def Deposit(self, request: pb.DepositRequest, context: Any) -> pb.Transfer:  # noqa: N802
        """The deposit, made."""
        return await self._transfer(DepositFunds, DEPOSIT, "Deposit", request)

    async def Withdraw(self, request: pb.WithdrawRequest, context: Any) -> pb.Transfer:  # noqa: N802
        """The withdrawal, made."""
        return await self._transfer(WithdrawFunds, WITHDRAWAL, "Withdraw", request)

    async def _transfer(
        self,
        command: type[DepositFunds | WithdrawFunds],
        kind: str,
        method: str,
        request: pb.DepositRequest | pb.WithdrawRequest,
    ) -> pb.Transfer:
        caller, checks = calling_tenant(), Checks()
        key = checks.read(idempotency_key, caller, method, request)
        amount = checks.read(_amount, request.amount_micro_usd)
        checks.done()
        if not self._dev:
            raise Refused("OPERATOR_ONLY", "money is moved in and out by the operator")
        assert amount is not None

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.Transfer:
            made = next((e.transfer_id for e in events if isinstance(e, FundsDeposited | FundsWithdrawn)), None)
            name = codec.TRANSFERS + (made or subject_of(state, key) or "")
            return pb.Transfer(name=name, kind=kind, amount_micro_usd=amount)

        return await self._engine.execute(command(caller, amount, key), NO_STOPWATCH, answer)


def _amount(amount_micro_usd: int) -> int:
    if amount_micro_usd < 1:
        raise InvalidInput([Violation("amount_micro_usd", f"must be at least 1, got {amount_micro_usd}")])
    return amount_micro_usd


def _first_number(token: str) -> int:
    """The number of the line that the page begins with."""
    text = page_start(token)
    if text and not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput([Violation("page_token", "is not a token of this engine")])
    return int(text or 0)
