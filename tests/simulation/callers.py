"""Callers: tenants that quote, deploy, change and release, and try again with the same key until they know."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from engine.domain.cluster_request import ClusterRequest
from engine.domain.tiers import SecurityTier
from engine.market import commands
from engine.market.events import Key
from tests.simulation import batches
from tests.simulation.calls import UNKNOWN, Call, Reply
from tests.simulation.kernel import START_US, TICK_US

if TYPE_CHECKING:
    from tests.simulation.life import Life

HOLDS = commands.HoldLimits(tenant_gpus_max=24, tenant_quotes_max=4, pool_gpus_free_of_limit=16)
TRIES_MAX = 6


class Caller:
    """One tenant. It remembers what it was told of and asks about that, sometimes about what is another's."""

    def __init__(self, life: Life, tenant: str, operations: int, session: int = 0) -> None:
        self.life, self.tenant, self.left, self.session = life, tenant, operations, session
        self.draw = life.kernel.draw
        self.leases: list[str] = []
        self.quotes: list[tuple[str, int]] = []
        self.orders: list[str] = []
        self.unresolved: list[Call] = []
        self.past: list[Call] = []
        self._keys = count(1)

    async def run(self) -> None:
        """All its operations, one after another."""
        while self.left > 0:
            await self.life.sleep_us(self._think_us())
            self.left -= 1
            call, arrives_in_us = self._next()
            self.life.operations[call.what] += 1
            if call.what == "DeployAtOnce":
                same_us = self.life.kernel.ticks_us(1, 8)
                await asyncio.gather(*(self.settle(item, same_us) for item in call.items))
            elif call.items:
                await batches.settle(self, call)
            else:
                await self.settle(call, arrives_in_us)

    def _think_us(self) -> int:
        return self.draw.choices((self.life.kernel.ticks_us(0, 8), self.life.kernel.ticks_us(20, 200)), (9, 1))[0]

    async def settle(self, call: Call, arrives_in_us: int | None = None) -> None:
        """Ask until the answer is definite, or for so often; without a key only once."""
        reply = await self.ask(call, arrives_in_us)
        tries = TRIES_MAX if call.key is not None or call.command is None else 1
        while reply.error in UNKNOWN and (tries := tries - 1) > 0:
            await self.life.sleep_us(self.life.kernel.ticks_us(5, 100))
            reply = await self.ask(call, None)
        if reply.error in UNKNOWN:
            if call.key is not None:
                self.unresolved.append(call)
            return
        self.learn(call, reply)

    async def ask(self, call: Call, arrives_in_us: int | None) -> Reply:
        asked = replace(call, acked_version=self.life.witness.acked_version)
        reply = await self.life.ask(asked, arrives_in_us)
        self.life.outcomes[reply.error or "answered"] += 1
        return reply

    def learn(self, call: Call, reply: Reply) -> None:
        if call.key is not None and not reply.error:
            self.past.append(call)
        if reply.error or call.is_foreign or not reply.subject:
            return
        if reply.subject.startswith("l-") and reply.subject not in self.leases:
            self.leases.append(reply.subject)
            self.life.seen.append((self.tenant, reply.subject))
        elif reply.subject.startswith("q-") and call.what == "Quote":
            self.quotes.append((reply.subject, reply.ends_us - START_US))
            self.life.seen.append((self.tenant, reply.subject))
        elif reply.subject.startswith("o-"):
            self.orders.append(reply.subject)
            self.life.seen.append((self.tenant, reply.subject))

    def _next(self) -> tuple[Call, int | None]:
        ways: tuple[tuple[int, Callable[[], Call]], ...] = (
            (10, self._deploy),
            (3, self._deploy_many),
            (2, self._deploy_at_once),
            (9, self._quote),
            (8, self._release),
            (4, self._extend),
            (3, self._shrink),
            (2, self._release_quote),
            (5, self._order),
            (2, self._cancel),
            (3, self._transfer),
            (5, self._read),
            (3, self._foreign),
            (3, self._again),
        )
        if self.quotes and self.draw.random() < 0.25:
            return self._deploy_quote()
        (way,) = self.draw.choices([way for _, way in ways], [weight for weight, _ in ways])
        return way(), None

    def call(self, what: str, command: commands.Command | None = None, subject: str = "", **more: Any) -> Call:
        return Call(next(self.life.numbers), self.tenant, what, command, subject, **more)

    def key(self, method: str, *body: object) -> Key | None:
        """A new key for most calls."""
        if self.draw.random() < 0.1:
            return None
        digest = hashlib.sha256(repr(body).encode()).digest()
        return Key(self.tenant, method, f"k{self.session}-{next(self._keys)}", digest)

    def request(self) -> ClusterRequest:
        draw = self.draw
        wanted: dict[str, Any] = {
            "gpu_count": draw.choice((1, 1, 2, 4, 8, 8, 12, 16)),
            "duration_s": draw.choice((1, 2, 5, 10, 20, 60, 3_600)),
        }
        options: tuple[dict[str, Any], ...] = (
            {"gpu_models": ("H100",)},
            {"gpu_models": ("A100",)},
            {"regions": ("us-east",)},
            {"max_cluster_rtt_ms": 30.0},
            {"min_security_tier": SecurityTier.SECURE},
            {"max_supplier_share": 0.5},
            {"max_price_micro_usd_per_gpu_hour": 2_600_000},
        )
        for option in draw.sample(options, draw.choice((0, 0, 1, 1, 2))):
            wanted |= option
        if wanted["gpu_count"] >= 4 and draw.random() < 0.4:
            wanted["gpus_per_node"] = draw.choice((2, 4))
        return ClusterRequest(**wanted)

    def _deploy(self) -> Call:
        return self.deployment(self.request(), self.draw.choice((0, 0, 30)))

    def _deploy_many(self) -> Call:
        return batches.batch_of(self)

    def _deploy_at_once(self) -> Call:
        """What could be a batch, as calls that come at the same moment: an engine decides them together."""
        return self.call("DeployAtOnce", items=tuple(batches.items_of(self)))

    def deployment(self, request: ClusterRequest, retry_s: int) -> Call:
        key = self.key("DeployCluster", request, retry_s)
        return self.call("Deploy", commands.DeployCluster(self.tenant, request, key, retry_on_loss_s=retry_s))

    def _quote(self) -> Call:
        request, ttl_s = self.request(), self.draw.choice((1, 1, 2, 5, 30))
        hold = self.draw.choice((None, HOLDS, HOLDS))
        key = self.key("QuoteCluster", request, ttl_s, hold)
        return self.call("Quote", commands.IssueQuote(self.tenant, request, ttl_s, key, hold))

    def _deploy_quote(self) -> tuple[Call, int | None]:
        """Often at the very moment at which it expires, or a tick beside it."""
        quote_id, expires_us = self.draw.choice(self.quotes[-4:])
        command = commands.DeployQuote(self.tenant, quote_id, self.key("DeployCluster", quote_id))
        left_us = expires_us - self.life.kernel.now_us + self.draw.choice((-TICK_US, 0, 0, TICK_US))
        exact = 0 < left_us < 3_000_000 and self.draw.random() < 0.6
        return self.call("DeployQuote", command, quote_id), left_us if exact else None

    def _some(self, names: list[str]) -> str:
        return self.draw.choice(names[-6:]) if names else "l-none"

    def _release(self) -> Call:
        lease = self._some(self.leases)
        return self.call(
            "Release", commands.ReleaseLease(self.tenant, lease, self.key("ReleaseLease", lease)), lease
        )

    def _extend(self) -> Call:
        lease, more_s = self._some(self.leases), self.draw.choice((1, 5, 3_600))
        key = self.key("ExtendLease", lease, more_s)
        return self.call("Extend", commands.ExtendLease(self.tenant, lease, more_s, None, key), lease)

    def _shrink(self) -> Call:
        lease, replicas = self._some(self.leases), self.draw.choice((1, 1, 2))
        key = self.key("ShrinkLease", lease, replicas)
        return self.call("Shrink", commands.ShrinkLease(self.tenant, lease, replicas, key), lease)

    def _release_quote(self) -> Call:
        quote = self._some([name for name, _ in self.quotes])
        key = self.key("ReleaseQuote", quote)
        return self.call("ReleaseQuote", commands.ReleaseQuote(self.tenant, quote, key), quote)

    def _order(self) -> Call:
        draw = self.draw
        limit = draw.choice((1_500_000, 2_600_000, 4_000_000))
        request = replace(self.request(), max_price_micro_usd_per_gpu_hour=limit)
        ttl_s, once, retry_s = draw.choice((1, 5, 30)), draw.random() < 0.15, draw.choice((0, 20))
        key = self.key("PlaceOrder", request, ttl_s, once, retry_s)
        command = commands.PlaceOrder(self.tenant, request, ttl_s, 0, once, retry_s, key)
        return self.call("PlaceOrder", command)

    def _cancel(self) -> Call:
        order = self._some(self.orders)
        return self.call(
            "CancelOrder", commands.CancelOrder(self.tenant, order, self.key("CancelOrder", order)), order
        )

    def _transfer(self) -> Call:
        kind, amount = (
            self.draw.choice((commands.DepositFunds, commands.WithdrawFunds)),
            self.draw.randint(1, 10**7),
        )
        method = "Deposit" if kind is commands.DepositFunds else "Withdraw"
        return self.call(method, kind(self.tenant, amount, self.key(method, amount)))

    def _read(self) -> Call:
        what = self.draw.choice(("Balance", "List", "Get"))
        names = [*self.leases, *(name for name, _ in self.quotes), *self.orders]
        return self.call(what, None, self._some(names) if what == "Get" else "")

    def _foreign(self) -> Call:
        """What is another's, as if it were one's own."""
        others = [name for owner, name in self.life.seen if owner != self.tenant]
        subject = self._some(others)
        ways: dict[str, tuple[str, Any]] = {
            "l": ("Release", commands.ReleaseLease(self.tenant, subject, self.key("ReleaseLease", subject))),
            "q": ("DeployQuote", commands.DeployQuote(self.tenant, subject, self.key("DeployCluster", subject))),
            "o": ("CancelOrder", commands.CancelOrder(self.tenant, subject, self.key("CancelOrder", subject))),
        }
        what, command = self.draw.choice((ways[subject[0]], ("Get", None)))
        return self.call(what, command, subject, is_foreign=True)

    def _again(self) -> Call:
        """An old call with its key, or a new body under it."""
        if not self.past:
            return self._read()
        call = self.draw.choice(self.past[-20:])
        return replace(call, number=next(self.life.numbers))
