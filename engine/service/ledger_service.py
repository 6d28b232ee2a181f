"""LedgerService: balances, statements, deposits and withdrawals of the caller."""

from __future__ import annotations

from typing import Any

from walras.v1 import ledger_service_pb2 as pb
from walras.v1.ledger_service_pb2_grpc import LedgerServiceServicer

from engine.domain.cluster_request import text_problem
from engine.domain.errors import InvalidInput, PermissionDenied, Violation
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
from engine.service.identity import caller
from engine.trust.principal import Role


class LedgerService(LedgerServiceServicer):
    """Thin: parse, submit or read, answer. A caller sees its own accounts; operators move money in and out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetBalance(self, request: pb.GetBalanceRequest, context: Any) -> pb.Balance:  # noqa: N802
        """What the caller has."""
        kind, name = _own_kind(request.account_kind), caller().name
        return await self._engine.read(lambda state: codec.balance_message(state, kind, name))

    async def ListEntries(  # noqa: N802
        self, request: pb.ListEntriesRequest, context: Any
    ) -> pb.ListEntriesResponse:
        """The caller's statement, oldest first."""
        name, checks = caller().name, Checks()
        kind = checks.read(_own_kind, request.account_kind)
        size = checks.read(page_size, request.page_size)
        first = checks.read(_first_number, request.page_token)
        checks.done()
        assert kind is not None and size is not None and first is not None
        start_us = request.start_time_us if request.HasField("start_time_us") else None
        end_us = request.end_time_us if request.HasField("end_time_us") else None

        def answer(state: MarketState) -> pb.ListEntriesResponse:
            account = codec.account_of(kind, name)
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
        checks = Checks()
        key = checks.read(idempotency_key, caller().account, method, request)
        amount = checks.read(_amount, request.amount_micro_usd)
        tenant_id = checks.read(_tenant_of, request.account)
        checks.done()
        assert amount is not None and tenant_id is not None

        def answer(state: MarketState, events: list[AnyEvent]) -> pb.Transfer:
            made = next((e.transfer_id for e in events if isinstance(e, FundsDeposited | FundsWithdrawn)), None)
            name = codec.TRANSFERS + (made or subject_of(state, key) or "")
            return pb.Transfer(name=name, kind=kind, amount_micro_usd=amount)

        return await self._engine.execute(command(tenant_id, amount, key), NO_STOPWATCH, answer)


def _own_kind(text: str) -> str:
    """The kind of the caller's own account that is meant; in development a tenant is the supplier of its name."""
    principal = caller()
    if not text and not principal.has(Role.TENANT):
        return codec.SUPPLIER
    kind = codec.account_kind(text)
    if not principal.has(*{codec.TENANT: (Role.TENANT,), codec.SUPPLIER: (Role.SUPPLIER, Role.OPERATOR)}[kind]):
        raise PermissionDenied(f"this credential has no account of the kind {kind}")
    return kind


def _tenant_of(account: str) -> str:
    """Whose account an operator names; its own if it is, in development, a tenant too."""
    if not account and caller().has(Role.TENANT):
        return caller().name
    prefix, _, tenant_id = account.partition("/")
    if prefix != "tenants" or text_problem(tenant_id):
        raise InvalidInput([Violation("account", f"must be tenants/TENANT, got {account[:60]!r}")])
    return tenant_id


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
