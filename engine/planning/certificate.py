"""The independent checker behind `walras plan check`: everything a plan claims, recomputed from its files alone.

It shares no code with the solver. Complexity: a pass over the rows of the plan, and for each request a pass over
the nodes of its models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.planning.certificate_answers import judged_by_cost, wrong_answers, wrong_names, wrong_reasons
from engine.planning.certificate_bound import ASK, dual_value, least_costs
from engine.planning.certificate_cards import overfull_beside, overfull_cards, wrong_cards
from engine.planning.certificate_distances import RoundTrips
from engine.planning.certificate_faults import Fault, first_faults
from engine.planning.certificate_files import changed_inputs, read_plan_files
from engine.planning.certificate_ledger import open_ledger
from engine.planning.certificate_leftovers import overlooked
from engine.planning.certificate_money import (
    rests_on_stronger_bound,
    welfare_micro_usd_per_hour,
    wrong_bounds,
    wrong_figures,
    wrong_prices,
)
from engine.planning.certificate_moves import overfull_nodes, shifts, wrong_moves
from engine.planning.certificate_placements import broken_constraints


@dataclass(frozen=True, slots=True)
class Claim:
    """The stronger bound of the report, micro-USD per hour: the solver's word, as no prices prove it.

    `method`: what the report names, empty if it names none. `is_optimum`: OPTIMAL rests on this bound alone.
    """

    bound_micro_usd_per_hour: int
    method: str
    is_optimum: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the checker found. Money is micro-USD per hour.

    `faults`: every rule that is broken, of each code the first few and a count; empty if all holds.
    `dual`: D(p) of the prices in the files, with the star bound for pairwise round trips. `claimed`: what the
    report says beyond that and nothing here proves; None if it says nothing more.
    """

    faults: tuple[Fault, ...]
    welfare_micro_usd_per_hour: int
    dual_micro_usd_per_hour: float
    claimed: Claim | None

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def check_plan(directory: Path) -> Certificate:
    """Recompute a plan from its directory alone; InvalidInput names the file that cannot be understood."""
    files = read_plan_files(directory)
    ledger, trips = open_ledger(files), RoundTrips(files.fleet, files.rtt)
    shifted = shifts(ledger)
    welfare = welfare_micro_usd_per_hour(ledger, shifted)
    least = least_costs(ledger, trips)
    dual, judged = dual_value(ledger, least), judged_by_cost(ledger)

    def faults() -> Iterator[Fault]:
        yield from changed_inputs(files)
        yield from wrong_names(ledger)
        yield from wrong_answers(ledger)
        yield from wrong_reasons(judged, least_costs(ledger, trips, judged, ASK))
        yield from overlooked(ledger, trips, judged)
        yield from broken_constraints(ledger, trips)
        yield from wrong_cards(ledger)
        yield from overfull_nodes(ledger)
        yield from overfull_cards(ledger)
        yield from overfull_beside(ledger)
        yield from wrong_moves(ledger, shifted)
        yield from wrong_prices(ledger)
        yield from wrong_figures(ledger, welfare)
        yield from wrong_bounds(files.report, welfare, dual)

    return Certificate(tuple(first_faults(faults())), welfare, dual, _claim(files.report, welfare))


def _claim(report: dict[str, Any], welfare: int) -> Claim | None:
    bound = report.get("stronger_bound_micro_usd_per_hour")
    if bound is None:
        return None
    return Claim(bound, report.get("stronger_method") or "", rests_on_stronger_bound(report, welfare))
