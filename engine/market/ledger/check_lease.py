"""A lease's money by the checker's own reckoning: exact fractions, no code of the booking side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor

from engine.market.ledger.check_stretch import Stretch, half_up

MILLION = 1_000_000
NEVER_US = 2**63
POTS = ("network-fee", "burn", "make-whole")


@dataclass(slots=True)
class Reckoning:
    """A running lease. `weights`: of each supplier, as parts of 1; `parts`: ppm of each of POTS.

    `earned`: what was due at its last change, or the price of holding; never paid back. `closed`: what was due
    when those who earn last changed; `paid`: by account, since then. `reclaim_at_us`: when a
    notice ends it by itself. The other sums are of its whole life.
    """

    tenant_id: str
    starts_us: int
    earned: int
    weights: dict[str, Fraction]
    parts: tuple[int, int, int]
    gpus: Sequence[int]
    stretches: list[Stretch]
    escrowed: int = 0
    settled: int = 0
    refunded: int = 0
    closed: int = 0
    has_notice: bool = False
    reclaim_at_us: int = NEVER_US
    paid: Counter[str] = field(default_factory=Counter)
    paid_before: Counter[str] = field(default_factory=Counter)
    """The same when it was last right to pay."""

    @property
    def left(self) -> int:
        """What must be in its escrow."""
        return self.escrowed - self.settled - self.refunded

    @property
    def charged(self) -> int:
        """What is set aside or paid for it, and not given back."""
        return self.escrowed - self.refunded

    @property
    def ends_s(self) -> int:
        """Second at which it ends."""
        return self.stretches[-1].to_s

    def seconds(self, at_us: int) -> int:
        """Seconds that have started."""
        return -((self.starts_us - at_us) // MILLION)

    def unused(self, at_us: int) -> int:
        """What everything that has not started by a time cost, at the prices paid."""
        at_s = self.seconds(at_us)
        whole = sum(half_up(stretch.left(at_s)) for stretch in self.stretches)
        return min(whole, self.charged - self.earned)

    def due(self, at_us: int) -> int:
        """What may have been charged by a time."""
        return self.charged - self.unused(at_us)

    def reprice(self, at_us: int, prices: Sequence[int]) -> int:
        """Pay other prices from now on; by how much that is dearer."""
        at_s = self.seconds(at_us)
        before = half_up(sum(stretch.left(at_s) for stretch in self.stretches))
        rest = Stretch(at_s, self.ends_s, self.gpus, prices)
        if at_s < self.ends_s:
            begun = [each for each in self.stretches if each.from_s < at_s]
            self.stretches = [replace(each, to_s=min(each.to_s, at_s), hourly=[]) for each in begun] + [rest]
        return half_up(rest.left(at_s)) - before

    def faults_while_running(self, due: int) -> Iterator[str]:
        """What is wrong with what was paid, if everyone should have the whole micro-dollars of its part."""
        for account, part in self._exact(due - self.closed).items():
            if self.paid[account] != floor(part):
                yield f"{account} has got {self.paid[account]} of {float(part):.2f} due"
        yield from self._strangers()

    def faults_at_close(self, due: int) -> Iterator[str]:
        """What is wrong with what was paid, if nothing more will be."""
        due -= self.closed
        total = sum(self.paid.values())
        if total != due:
            yield f"{total} were charged and {due} were due"
        exact = self._exact(due)
        pot = due - sum(floor(exact[name]) for name in POTS)
        for name in POTS:
            exact[name] = Fraction(floor(exact[name]))
        for name, own in self.weights.items():
            exact[f"suppliers/{name}"] = pot * own
        for account, part in exact.items():
            if not part - 1 < self.paid[account] < part + 1:
                yield f"{account} has got {self.paid[account]} of {float(part):.2f} due"
        yield from self._strangers()

    def share(self, due: int, weights: dict[str, Fraction]) -> None:
        """Let others earn from now on."""
        self.weights, self.closed = weights, due
        self.paid, self.paid_before = Counter(), Counter()

    def _exact(self, due: int) -> dict[str, Fraction]:
        suppliers = MILLION - sum(self.parts)
        shares = {name: Fraction(due * ppm, MILLION) for name, ppm in zip(POTS, self.parts, strict=True)}
        for name, own in self.weights.items():
            shares[f"suppliers/{name}"] = Fraction(due * suppliers, MILLION) * own
        return shares

    def _strangers(self) -> Iterator[str]:
        known = {*POTS, *(f"suppliers/{name}" for name in self.weights)}
        for account in self.paid.keys() - known:
            yield f"{account} has no part in it and was paid"
