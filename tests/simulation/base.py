"""Where every life begins: a small fleet, loaded by the real engine, and tenants with money; made once."""

from __future__ import annotations

import gc
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

from engine.journal import snapshots
from engine.market.commands import DepositFunds, SetLedgerRules
from engine.market.events import Key, decode
from engine.market.ledger.check import LedgerCheck
from engine.market.state_codec import capture, state_format
from engine.market.stopwatch import NO_STOPWATCH
from engine.service.engine import Engine
from tests.service.loopback import Book, Row, node
from tests.service.sequences import load_command
from tests.simulation.kernel import START_US, Kernel, Process
from tests.simulation.store import Disk, EmbeddedDatabase
from tests.simulation.system import Thread, installed
from tests.simulation.twin import Twin

FUNDS_MICRO_USD = {
    "alice": 10**12,
    "bob": 10**12,
    "carol": 5 * 10**7,
    "dave": 10**7,
    "erin": 10**12,
    "frank": 10**11,
}
TENANTS = tuple(FUNDS_MICRO_USD)
"""Those who call; the planner has money, too."""


@dataclass(frozen=True)
class Base:
    """Bytes of a disk, and the market on it as the checkers know it; both are copied, never changed."""

    image: bytes
    content: bytes
    twin: Twin
    ledger: LedgerCheck


def nodes() -> list[Row]:
    """Twelve nodes of two suppliers and models at three sites."""
    sites = ("iad1", "iad1", "sfo1", "fra1")
    return [
        node(
            f"n{number:02d}",
            site_id=sites[number % 4],
            gpu_model="H100" if number % 3 else "A100",
            gpu_count=4 if number == 7 else 8,
            supplier_id=("acme", "bolt")[number % 2],
            security_tier="SECURE" if number % 5 else "COMMUNITY",
            ask_micro_usd_per_gpu_hour=1_000_000 + 150_000 * number,
        )
        for number in range(12)
    ]


@cache
def base() -> Base:
    """The one base, whose making is not part of any run."""
    from tests.simulation.server import RULES

    kernel = Kernel(0)
    disk = kernel.disk = Disk(kernel, None, lambda process: None)  # type: ignore[attr-defined]
    process, done, made = Process(kernel, "base"), list[bool](), list[bytes]()

    def make() -> None:
        engine = Engine(EmbeddedDatabase(), Book(), lambda: START_US)
        engine.submit(load_command(nodes(), []), NO_STOPWATCH)
        engine.submit(SetLedgerRules(RULES), NO_STOPWATCH)
        for tenant, amount in (*FUNDS_MICRO_USD.items(), ("planner", 10**12)):
            engine.submit(DepositFunds(tenant, amount, Key(tenant, "Deposit", "first", b"")), NO_STOPWATCH)
        sequence = engine.journal.appended_sequence
        engine.close()
        made.append(capture(engine.state)())
        snapshots.save(EmbeddedDatabase(), sequence, state_format(), made[0])
        done.append(True)

    with installed(kernel):
        kernel.current = process
        Thread(target=make).start()
        kernel.run(lambda: bool(done), 10**9)
        assert done and not kernel.violations, kernel.violations
        gc.freeze()  # what is loaded by now stays: looking through it again and again costs a tenth of a run
        twin, ledger = Twin(), LedgerCheck()
        for entry in disk.entries_after(0):
            event = decode(entry.payload)
            assert not twin.follow(event), twin.found
            ledger.follow(entry.sequence, event)
    return Base(disk.image(), made[0], twin, deepcopy(ledger))
