"""An engine that verifies tokens, with two tenants, two suppliers and nodes, each with something of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
from walras.v1.order_service_pb2 import PlaceOrderRequest
from walras.v1.order_service_pb2_grpc import OrderServiceStub

from engine.service.engine import Engine
from engine.service.options import LedgerSettings
from engine.service.server import Server
from engine.trust.key_ring import KeyRing, KeyTimes
from engine.trust.quotas import NO_QUOTAS
from tests.service.credentials import Bearer, auth_options
from tests.service.described import Metadata, all_methods, invoke
from tests.service.loopback import Book, Client, Loopback, node, refusal_of, small_fleet
from tests.service.planners import Greedy, Planner, wanted
from tests.trust.issuer import Issuer

NAMES = {"tenant": "alice", "supplier": "acme", "operator": "root", "node": "h1"}
OTHER = {"tenant": "secretbob", "supplier": "bolt", "node": "h2"}
"""`secretbob` is looked for in the bytes of every answer."""


class AccessWorld(Loopback):
    """Alice and secretbob lease a node each; acme has h1, h3, a1, l1 and bolt h2, a2."""

    def __init__(self, folder: Path) -> None:
        self.issuer = Issuer()
        options = {"ledger": LedgerSettings(require_deposit=False), **auth_options(self.issuer, folder)}
        super().__init__(folder / "data", dev=False, quotas=NO_QUOTAS, **options)
        self.bearer("operator", "root").load(
            [*small_fleet(), node("a9", gpu_model="A100", site_id="fra1", supplier_id="bolt", gpu_count=900)]
        )
        self.mine = self.bearer("tenant", NAMES["tenant"])
        self.theirs = self.bearer("tenant", OTHER["tenant"])
        self.foreign = {
            "lease": self.fresh("lease", self.theirs),
            "quote": self.fresh("quote", self.theirs),
            "plan": self.fresh("plan", self.theirs),
            "plan_id": self.fresh("plan_id", self.theirs),
            "order": self.fresh("order", self.theirs),
        }
        self.leased = self.mine.deploy(gpu_count=1, gpu_models=["H100"], regions=["us-east"])

    async def _start(self) -> tuple[Engine, Server, int]:
        engine = Engine(self.data_dir, Book(), self.clock)
        keys = KeyRing(str(self.options.auth_jwks), time.monotonic, KeyTimes(refetch_s=0))
        server = Server(engine, self.options, Greedy().solver(), keys=keys)
        return engine, server, await server.start()

    def bearer(self, role: str, name: str, **changes: Any) -> Bearer:
        return Bearer(self.channel, self.issuer.token(role, name, **changes))

    def fresh(self, kind: str, owner: Client) -> str:
        """A new object of a tenant."""
        if kind == "lease":
            return str(owner.deploy(gpu_count=2, gpu_models=["A100"]).name)
        if kind == "quote":
            return str(owner.quote(gpu_count=1, gpu_models=["A100"], ttl_s=3_600).name)
        if kind == "order":
            request = PlaceOrderRequest(
                cluster=wanted("o", 1, gpu_models=["A100"], max_price_micro_usd_per_gpu_hour=1)
            )
            return str(OrderServiceStub(self.channel).PlaceOrder(request, metadata=owner.metadata).name)
        name = Planner(owner).plan(wanted("p", 1, gpu_models=["A100"]))
        return name.removeprefix("plans/") if kind == "plan_id" else name

    def own(self, role: str, kinds: Iterable[str]) -> dict[str, str]:
        """Ids of objects that are the role's, by kind; those of `kinds` are new."""
        ids = {"node_id": "h1", "supplier_id": "acme", "node": "nodes/h1"}
        if role == "tenant":
            ids["node"] = f"nodes/{self.leased.placement.node_ids[0]}"
            ids |= {kind: self.fresh(kind, self.mine) for kind in kinds if kind in self.foreign}
        return ids

    def others(self, role: str, kind: str) -> list[str]:
        """Ids of objects that are somebody else's, as seen by the role; operators keep all nodes."""
        if kind in self.foreign:
            return [self.foreign[kind]]
        if role == "operator":
            return []
        by_role = {"tenant": ["a2", "l1"], "supplier": ["h2", "a2"], "node": ["h2", "h3"]}
        if kind == "supplier_id":
            return ["bolt"]
        return [f"nodes/{each}" if kind == "node" else each for each in by_role[role]]

    def missing(self, like: str) -> str:
        """An id that nothing has, as long as another."""
        head, slash, identifier = like.rpartition("/")
        letters = 2 if "-" in identifier else 0
        return head + slash + identifier[:letters] + re.sub(r"[^-]", "8" if slash else "9", identifier[letters:])

    def answer(self, method: str, message: Any, metadata: Metadata) -> list[bytes] | Any:
        """The replies' bytes, or the Refusal."""
        try:
            return invoke(self.channel, all_methods()[method], [message.SerializeToString()], metadata)
        except grpc.RpcError as error:
            return refusal_of(error)
