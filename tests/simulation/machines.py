"""A market of one kind of node: a few lines of arithmetic, and real engines on real databases."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import WalrasError
from engine.journal import Place
from engine.market import commands
from engine.market.decide import made_by
from engine.market.events import encode
from engine.market.ledger.rules import LedgerRules
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from tests.service.loopback import Book, Clock, node
from tests.service.sequences import load_command

ASK, GPUS, NODES, WAIT_S = 720_000, 32, 4, 30.0
"""micro-USD per GPU-hour: 200 a second."""
RULES = LedgerRules(require_deposit=True)


@dataclass
class Sold:
    """A lease, a quote or a hold of the model."""

    tenant: str
    gpus: int
    begins_us: int
    duration_s: int
    holds: bool = False
    expires_us: int = 0
    is_over: bool = False

    @property
    def total(self) -> int:
        return self.gpus * ASK * self.duration_s // 3_600


@dataclass
class Model:
    """The market as anybody would put it: GPUs that are free, money that is there, and what a key did before."""

    now_us: int
    money: dict[str, int] = field(default_factory=dict)
    leases: dict[str, Sold] = field(default_factory=dict)
    quotes: dict[str, Sold] = field(default_factory=dict)

    @property
    def free(self) -> int:
        leased = sum(lease.gpus for lease in self.leases.values() if not lease.is_over)
        return GPUS - leased - sum(quote.gpus for quote in self.quotes.values() if self._holds(quote))

    def _holds(self, quote: Sold) -> bool:
        return quote.holds and not quote.is_over

    def pass_s(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000
        for lease in self.leases.values():
            lease.is_over |= lease.begins_us + lease.duration_s * 1_000_000 <= self.now_us
        for quote in self.quotes.values():
            quote.is_over |= quote.expires_us <= self.now_us

    def deposit(self, tenant: str, amount: int) -> str:
        self.money[tenant] = self.money.get(tenant, 0) + amount
        return "done"

    def deploy(self, tenant: str, gpus: int, duration_s: int) -> str | Sold:
        sold = Sold(tenant, gpus, self.now_us, duration_s)
        if gpus > self.free:
            return "NO_CAPACITY"
        return self._pay(sold)

    def _pay(self, sold: Sold) -> str | Sold:
        if sold.total > self.money.get(sold.tenant, 0):
            return "INSUFFICIENT_FUNDS"
        self.money[sold.tenant] -= sold.total
        return sold

    def quote(self, tenant: str, gpus: int, duration_s: int, ttl_s: int, *, hold: bool) -> str | Sold:
        if gpus > self.free:
            return "NO_CAPACITY"
        return Sold(tenant, gpus, self.now_us, duration_s, hold, self.now_us + ttl_s * 1_000_000)

    def deploy_quote(self, tenant: str, quote_id: str) -> str | Sold:
        quote = self.quotes.get(quote_id)
        if quote is None or quote.tenant != tenant:
            return "NOT_FOUND"
        if quote.is_over or (not quote.holds and quote.gpus > self.free):
            return "unusable"
        sold = self._pay(Sold(tenant, quote.gpus, self.now_us, quote.duration_s))
        quote.is_over = isinstance(sold, Sold)
        return sold

    def release(self, tenant: str, lease_id: str) -> str:
        lease = self.leases.get(lease_id)
        if lease is None or lease.tenant != tenant:
            return "NOT_FOUND"
        if not lease.is_over:
            lease.is_over = True
            used_s = -(-(self.now_us - lease.begins_us) // 1_000_000)
            self.money[tenant] += lease.gpus * ASK * (lease.duration_s - used_s) // 3_600
        return "done"


class Real:
    """An engine on a database, which can crash; `log`: the bytes of all its events, `answers` of the commands."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.log = clock, list[bytes]()
        self._crashed = list[Engine]()
        self.engine = Engine(self.place(), Book(), clock)
        nodes = [
            node(f"n{number}", gpu_model="L40S", ask_micro_usd_per_gpu_hour=ASK, reliability=0.99)
            for number in range(NODES)
        ]
        self.do(load_command(nodes, []))
        self.do(commands.SetLedgerRules(RULES))

    def place(self) -> Place:
        raise NotImplementedError

    def do(self, command: commands.Command) -> str:
        """The reason of a refusal, or what was made; durable."""
        before = self.engine.state.version
        try:
            events, receipt = self.engine.submit(command, NO_STOPWATCH)
        except WalrasError as error:
            self.engine.journal.append([], 0).result(WAIT_S)
            return error.reason
        self.log += [encode(event) for event in events]
        receipt.result(WAIT_S)
        key = getattr(command, "key", None)
        placing = commands.DeployCluster | commands.DeployQuote | commands.IssueQuote
        assert self.engine.state.version >= before
        return made_by(self.engine.state, events, key) if isinstance(command, placing) else "done"

    def crash(self) -> None:
        """Leave everything as it is, and begin with what is durable."""
        before = self.engine.state.hash()
        self._crashed.append(self.engine)
        self._let_go(self.engine)
        self.engine = Engine(self.place(), Book(), self.clock)
        assert self.engine.state.hash() == before

    def _let_go(self, engine: Engine) -> None:
        raise NotImplementedError

    def close(self) -> None:
        for engine in (self.engine, *self._crashed):
            engine.close()


class OnSqlite(Real):
    """A crash leaves a copy of the files as they are, write-ahead log included."""

    def __init__(self, clock: Clock) -> None:
        self._home, self._lives = Path(tempfile.mkdtemp(prefix="walras-model-")), 0
        super().__init__(clock)

    def place(self) -> Place:
        return self._home / str(self._lives)

    def _let_go(self, engine: Engine) -> None:
        old = self._home / str(self._lives)
        self._lives += 1
        shutil.copytree(old, self._home / str(self._lives))

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._home)


class OnPostgres(Real):
    """A crash leaves the leader's lease to its end, which is brought near."""

    def __init__(self, clock: Clock, new_url: Callable[[], str]) -> None:
        self._url = new_url()
        super().__init__(clock)

    def place(self) -> Place:
        return self._url

    def _let_go(self, engine: Engine) -> None:
        engine.journal._claim.release()


def request(gpus: int, duration_s: int) -> ClusterRequest:
    """So many GPUs of the one kind."""
    return ClusterRequest(gpu_count=gpus, duration_s=duration_s)
