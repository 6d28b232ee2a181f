"""A caller's view of LedgerService."""

from __future__ import annotations

from typing import Any

from walras.v1 import ledger_service_pb2 as pb
from walras.v1.ledger_service_pb2_grpc import LedgerServiceStub

from tests.service.loopback import Client


class Account:
    """The accounts of a client."""

    def __init__(self, client: Client) -> None:
        self._client, self._stub = client, LedgerServiceStub(client.channel)

    def balance(self, kind: str = "") -> Any:
        return self._client.call(self._stub.GetBalance, pb.GetBalanceRequest(account_kind=kind))

    def entries(self, **fields: Any) -> Any:
        return self._client.call(self._stub.ListEntries, pb.ListEntriesRequest(**fields))

    def deposit(self, amount_micro_usd: int, key: str = "", account: str = "") -> Any:
        request = pb.DepositRequest(amount_micro_usd=amount_micro_usd, idempotency_key=key, account=account)
        return self._client.call(self._stub.Deposit, request)

    def withdraw(self, amount_micro_usd: int, key: str = "") -> Any:
        request = pb.WithdrawRequest(amount_micro_usd=amount_micro_usd, idempotency_key=key)
        return self._client.call(self._stub.Withdraw, request)
