"""How a planning job is to be done."""

from __future__ import annotations

from dataclasses import dataclass

from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_PRICE_MICRO_USD_PER_GPU_HOUR


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How to plan; the report repeats all of it. None: no limit, or the solver's own default.

    `time_limit_s` is for the whole job, reading and writing included. `ray`: address of a cluster, or "local";
    `workers`: processes of this machine, None for threads. Costs and bonuses are micro-USD per GPU.
    """

    time_limit_s: float | None = None
    work_limit: int | None = None
    seed: int = 0
    move_cost_micro_usd: int = 100_000
    displaced_bonus_micro_usd: int = 1_000_000
    ray: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Raise InvalidInput for every option out of range."""
        checks = (
            ("time-limit", self.time_limit_s is None or 0 < self.time_limit_s < float("inf"), "must be above 0"),
            ("work-limit", self.work_limit is None or self.work_limit >= 0, "must not be negative"),
            ("seed", 0 <= self.seed < 2**63, "must be between 0 and 2^63 - 1"),
            ("workers", self.workers is None or 1 <= self.workers <= MOST_WORKERS, _WORKERS_RULE),
            ("move-cost-micro-usd", _is_price(self.move_cost_micro_usd), _PRICE_RULE),
            ("displaced-bonus-micro-usd", _is_price(self.displaced_bonus_micro_usd), _PRICE_RULE),
        )
        violations = [Violation(f"--{name}", rule) for name, holds, rule in checks if not holds]
        if violations:
            raise InvalidInput(violations)


MOST_WORKERS = 256
"""A pass has 64 parts at most."""
_WORKERS_RULE = f"must be between 1 and {MOST_WORKERS}"
_PRICE_RULE = f"must be between 0 and {MAX_PRICE_MICRO_USD_PER_GPU_HOUR:,}"


def _is_price(micro_usd: int) -> bool:
    return 0 <= micro_usd <= MAX_PRICE_MICRO_USD_PER_GPU_HOUR
