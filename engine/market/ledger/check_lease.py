"""A lease's money by the checker's own reckoning: exact fractions, no code of the booking side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

MILLION = 1_000_000
POTS = ("network-fee", "burn", "make-whole")


@dataclass(slots=True)
class Reckoning:
    """A running lease. `weights`: price per hour by supplier; `parts`: ppm of each of POTS.

    `paid`: by account, since the lease started or last moved; the other sums are of its whole life.
    """

    tenant_id: str
    from_us: int
    to_us: int
    even: int
    upfront: int
    weights: dict[str, int]
    parts: tuple[int, int, int]
    escrowed: int = 0
    settled: int = 0
    refunded: int = 0
    settled_at_us: int = 0
    paid: Counter[str] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        """What must be in its escrow."""
        return self.escrowed - self.settled - self.refunded

    def seconds(self, at_us: int) -> int:
        """Seconds that have started."""
        return -((self.from_us - min(max(at_us, self.from_us), self.to_us)) // MILLION)

    def due(self, at_us: int) -> int:
        """What may have been charged by a time."""
        whole = Fraction(self.to_us - self.from_us, MILLION)
        share = self.even * Fraction(self.seconds(at_us)) / whole if whole else Fraction(self.even)
        return self.upfront + floor(share + Fraction(1, 2))

    def faults_while_running(self, due: int) -> Iterator[str]:
        """What is wrong with what was paid, if everyone should have the whole micro-dollars of its part."""
        for account, part in self._exact(due).items():
            if self.paid[account] != floor(part):
                yield f"{account} has got {self.paid[account]} of {float(part):.2f} due"
        yield from self._strangers()

    def faults_at_close(self, due: int) -> Iterator[str]:
        """What is wrong with what was paid, if nothing more will be."""
        total = sum(self.paid.values())
        if total != due:
            yield f"{total} were charged and {due} were due"
        exact = self._exact(due)
        pot = due - sum(floor(exact[name]) for name in POTS)
        weight = sum(self.weights.values())
        for name in POTS:
            exact[name] = Fraction(floor(exact[name]))
        for name, own in self.weights.items():
            exact[f"suppliers/{name}"] = Fraction(pot * own, weight) if pot else Fraction(0)
        for account, part in exact.items():
            if not part - 1 < self.paid[account] < part + 1:
                yield f"{account} has got {self.paid[account]} of {float(part):.2f} due"
        yield from self._strangers()

    def move(self, at_us: int, due: int, weights: dict[str, int]) -> None:
        """Go on elsewhere from the next second that has not started."""
        self.even, self.upfront = self.upfront + self.even - due, 0
        self.from_us += self.seconds(at_us) * MILLION
        self.weights, self.paid = weights, Counter()

    def _exact(self, due: int) -> dict[str, Fraction]:
        weight, suppliers = sum(self.weights.values()), MILLION - sum(self.parts)
        shares = {name: Fraction(due * ppm, MILLION) for name, ppm in zip(POTS, self.parts, strict=True)}
        for name, own in self.weights.items():
            shares[f"suppliers/{name}"] = Fraction(due * suppliers * own, MILLION * weight) if due else Fraction(0)
        return shares

    def _strangers(self) -> Iterator[str]:
        known = {*POTS, *(f"suppliers/{name}" for name in self.weights)}
        for account in self.paid.keys() - known:
            yield f"{account} has no part in it and was paid"
