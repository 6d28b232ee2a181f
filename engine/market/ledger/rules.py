"""What the operator sets of the ledger. The rules are part of the state: a change is an event of the journal."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.errors import InvalidInput, Violation

DAY_S = 24 * 3_600
PPM = 1_000_000
RANGES = {
    "network_fee_ppm": (0, PPM // 2),
    "burn_ppm": (0, PPM // 4),
    "make_whole_ppm": (0, PPM // 4),
    "settlement_period_s": (60, 366 * DAY_S),
    "statement_kept_s": (DAY_S, 3_660 * DAY_S),
}
"""Parts can never add up to more than the whole, even if they were set at different times."""


@dataclass(frozen=True, slots=True)
class LedgerRules:
    """Parts per million of what is charged, and times; InvalidInput lists what is out of its range.

    `require_deposit`: a lease needs funds; else what a tenant lacks is credited to it, visibly. Burn and
    make-whole are pots that nothing is paid out of yet, so their parts are 0.
    """

    require_deposit: bool = False
    network_fee_ppm: int = 50_000
    burn_ppm: int = 0
    make_whole_ppm: int = 0
    settlement_period_s: int = DAY_S
    statement_kept_s: int = 35 * DAY_S

    def __post_init__(self) -> None:
        found = [
            Violation(name, f"must be between {low:,} and {high:,}")
            for name, (low, high) in RANGES.items()
            if not low <= getattr(self, name) <= high
        ]
        if found:
            raise InvalidInput(found)
