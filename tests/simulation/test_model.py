"""The same commands on a tiny model, on SQLite and on PostgreSQL: the same answers, balances and bytes."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.market import commands
from engine.market.events import Key
from tests.full_size import size
from tests.postgres import Cluster
from tests.service.loopback import Clock
from tests.simulation.machines import Model, OnPostgres, OnSqlite, Real, Sold, request

TENANTS = st.sampled_from(("alice", "bob"))
GPUS = st.sampled_from((1, 2, 7, 8, 16, 30))
HOURS = st.sampled_from((1, 9, 3_600, 7_200))
HOLDS = commands.HoldLimits(pool_gpus_free_of_limit=1_000)
UNUSABLE = ("QUOTE_USED", "QUOTE_RELEASED", "QUOTE_EXPIRED", "QUOTE_CAPACITY_GONE", "QUOTE_TERMS_GONE")


class Markets(RuleBasedStateMachine):
    """Laws 1, 4, 5 and 6, and that both databases hold the same journal."""

    new_url: Callable[[], str] | None = None

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.model = Model(self.clock.now_us)
        self.reals: list[Real] = [OnSqlite(self.clock)]
        if type(self).new_url is not None:
            self.reals.append(OnPostgres(self.clock, type(self).new_url))
        self.names, self.keyed = 0, dict[Key, tuple[commands.Command, str]]()

    def do(self, command: commands.Command) -> str:
        """The answer of all engines, which must be one."""
        answers = {real.do(command) for real in self.reals}
        assert len(answers) == 1, answers
        answer = answers.pop()
        key = getattr(command, "key", None)
        if key is not None and answer[:2] in ("l-", "q-"):
            self.keyed[key] = command, answer
        return answer

    def key(self, tenant: str, method: str) -> Key:
        self.names += 1
        return Key(tenant, method, f"k{self.names}", b"body")

    @rule(tenant=TENANTS, amount=st.integers(1, 40_000_000))
    def deposit(self, tenant: str, amount: int) -> None:
        wanted = self.model.deposit(tenant, amount)
        assert self.do(commands.DepositFunds(tenant, amount, self.key(tenant, "Deposit"))) == wanted

    @rule(tenant=TENANTS, gpus=GPUS, duration_s=HOURS)
    def deploy(self, tenant: str, gpus: int, duration_s: int) -> None:
        wanted = self.model.deploy(tenant, gpus, duration_s)
        key = self.key(tenant, "DeployCluster")
        self._sold(
            self.model.leases, wanted, self.do(commands.DeployCluster(tenant, request(gpus, duration_s), key))
        )

    @rule(tenant=TENANTS, gpus=GPUS, duration_s=HOURS, ttl_s=st.sampled_from((1, 5)), hold=st.booleans())
    def quote(self, tenant: str, gpus: int, duration_s: int, ttl_s: int, hold: bool) -> None:
        wanted = self.model.quote(tenant, gpus, duration_s, ttl_s, hold=hold)
        key, limits = self.key(tenant, "QuoteCluster"), HOLDS if hold else None
        command = commands.IssueQuote(tenant, request(gpus, duration_s), ttl_s, key, limits)
        self._sold(self.model.quotes, wanted, self.do(command))

    @precondition(lambda self: self.model.quotes)
    @rule(tenant=TENANTS, data=st.data())
    def deploy_quote(self, tenant: str, data: st.DataObject) -> None:
        quote_id = data.draw(st.sampled_from(sorted(self.model.quotes)[-4:]))
        wanted = self.model.deploy_quote(tenant, quote_id)
        answer = self.do(commands.DeployQuote(tenant, quote_id, self.key(tenant, "DeployCluster")))
        self._sold(self.model.leases, wanted, "unusable" if answer in UNUSABLE else answer)

    def _sold(self, things: dict[str, Sold], wanted: str | Sold, answer: str) -> None:
        if isinstance(wanted, Sold):
            assert answer[:2] in ("l-", "q-"), f"{answer} and not {wanted}"
            things[answer] = wanted
        else:
            assert answer == wanted

    @precondition(lambda self: self.model.leases)
    @rule(tenant=TENANTS, data=st.data())
    def release(self, tenant: str, data: st.DataObject) -> None:
        lease_id = data.draw(st.sampled_from(sorted(self.model.leases)[-6:]))
        wanted = self.model.release(tenant, lease_id)
        assert self.do(commands.ReleaseLease(tenant, lease_id, self.key(tenant, "ReleaseLease"))) == wanted

    @precondition(lambda self: self.keyed)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """An old key: the same answer, and nothing new."""
        command, answer = self.keyed[data.draw(st.sampled_from(sorted(self.keyed, key=repr)))]
        before = [len(real.log) for real in self.reals]
        assert self.do(command) == answer
        assert [len(real.log) for real in self.reals] == before

    @rule(seconds=st.sampled_from((1, 1, 4, 9, 3_600)))
    def wait(self, seconds: int) -> None:
        self.clock.advance_s(seconds)
        self.model.pass_s(seconds)

    @rule()
    def crash(self) -> None:
        for real in self.reals:
            real.crash()

    @invariant()
    def all_say_the_same(self) -> None:
        for real in getattr(self, "reals", ()):
            real.engine.end_due(self.clock.now_us)
            state = real.engine.state
            assert int(state.inventory.free.sum()) == self.model.free
            for tenant, amount in self.model.money.items():
                assert state.books.balances.get(f"tenants/{tenant}", 0) == amount
        assert len({tuple(real.log) for real in getattr(self, "reals", ())}) <= 1, "different journals"

    def teardown(self) -> None:
        for real in getattr(self, "reals", ()):
            real.close()


def _run(machine: type[Markets], quick: int, full: int) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=size(quick, full), stateful_step_count=size(14, 50))
    )


def test_model_and_sqlite_agree() -> None:
    """Laws 1, 4, 5 and 6 on the embedded database."""
    _run(Markets, 3, 200)


def test_model_sqlite_and_postgresql_agree(postgres: Cluster) -> None:
    """The same on both databases at once: one code path, so the same bytes."""

    class Both(Markets):
        new_url = postgres.new_url

    _run(Both, 2, 100)
