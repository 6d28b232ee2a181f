"""Moving money in a data directory whose engine does not run: the operator's way until operators are verified."""

from __future__ import annotations

from pathlib import Path

from walras.v1 import ledger_service_pb2 as pb

from engine.domain.cluster_request import text_problem
from engine.domain.errors import InvalidInput, Violation
from engine.market.commands import DepositFunds, WithdrawFunds
from engine.market.ledger.purse import spendable
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from engine.service.fields import idempotency_key
from engine.service.price_book import ReferenceBook


def deposit_offline(data_dir: Path, tenant_id: str, request: pb.DepositRequest) -> int:
    """Deposit into a tenant's account; the balance, once durable. Unavailable while an engine runs there."""
    key = idempotency_key(tenant_id, "Deposit", request)
    return _submitted(data_dir, DepositFunds(tenant_id, request.amount_micro_usd, key))


def withdraw_offline(data_dir: Path, tenant_id: str, request: pb.WithdrawRequest) -> int:
    """Pay a tenant out, likewise; InsufficientFunds if there is less."""
    key = idempotency_key(tenant_id, "Withdraw", request)
    return _submitted(data_dir, WithdrawFunds(tenant_id, request.amount_micro_usd, key))


def _submitted(data_dir: Path, command: DepositFunds | WithdrawFunds) -> int:
    if problem := text_problem(command.tenant_id):
        raise InvalidInput([Violation("--tenant", problem)])
    engine = Engine(data_dir, ReferenceBook())
    try:
        _, receipt = engine.submit(command, NO_STOPWATCH)
        receipt.result()
        return spendable(engine.state, command.tenant_id)
    finally:
        engine.close()
