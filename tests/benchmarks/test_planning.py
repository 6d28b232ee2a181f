"""Every planning spec runs once, small; no figure is judged but that they fit together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.other_suites import run_plans
from benchmarks.peers.lineup import PEERS
from benchmarks.planning import Outcome, figures
from benchmarks.registry import PLAN_FAMILIES, SMALL, PlanFamily, small_plan
from benchmarks.report import report
from tests.full_size import FULL

NAMED = Path(os.environ.get("WALRAS_DATA") or "unset")
DATA_DIR = NAMED if NAMED.is_dir() else None
QUICK_WORLDS = "real", "small"
"""The standard instance differs from the small one in its size only, which is not judged here."""
FAMILIES = [
    small_plan(family) for family in PLAN_FAMILIES if FULL or (family.world in QUICK_WORLDS and not family.alone)
]
QUANTITIES = {"gap", "wall_s", "peak_rss_mb", "welfare_micro_usd_per_hour", "bound_micro_usd_per_hour", "solve_s"}


@pytest.fixture(scope="module")
def results() -> dict[str, float]:
    return run_plans(FAMILIES, SMALL, DATA_DIR)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.key(0))
def test_ours_and_the_peers_have_their_figures(results: dict[str, float], family: PlanFamily) -> None:
    if family.world == "real" and DATA_DIR is None:
        pytest.skip("WALRAS_DATA names no directory: the public data is not at hand")
    key = family.key(family.loads[0])
    assert {f"{key}.{name}" for name in QUANTITIES} <= results.keys()
    asked = set() if family.alone else {f"{key}.{peer}.{name}" for peer in PEERS for name in ("gap", "wall_s")}
    asked |= set() if family.alone else {f"{key}.replan_solver_cpu_to_full"}
    assert asked <= results.keys()
    assert all(results[name] >= 0 for name in results if name.startswith(key) and name.endswith(".gap"))


def test_the_report_has_a_row_for_everyone(results: dict[str, float]) -> None:
    text = report(results, (), SMALL, FAMILIES)
    assert "**walras**" in text
    assert all(f"| {peer} |" in text for peer in PEERS)


def test_keys_are_those_of_the_contract() -> None:
    assert "plan.real.load_0.9" in {family.key(load) for family in PLAN_FAMILIES for load in family.loads}


def test_closed_is_the_share_of_what_first_come_leaves() -> None:
    written = {
        "welfare_micro_usd_per_hour": 95,
        "bound_micro_usd_per_hour": 100,
        "wall_s": 1.0,
        "phases": {"solve": 0.5},
    }
    found = figures(written, {"first_come": Outcome(80, 0.1), "pop_4": Outcome(90, 0.2)})
    assert found["closed"] == 0.75
    assert found["pop_4.closed"] == 0.5
    assert found["first_come.closed"] == 0.0
    assert found["gap"] == 0.05
    assert found["pop_4.welfare_to_ours"] == pytest.approx(90 / 95)
    assert found["solve_s"] == 0.5
