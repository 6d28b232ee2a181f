"""The checker accepts honest plans, agrees with a twin on D(p), and finds every planted fault by its code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import polars as pl
import pytest

from engine.domain.errors import InvalidInput
from engine.planning import certificate_bound
from engine.planning.certificate import Claim, check_plan
from engine.planning.certificate_faults import FaultCode
from tests.full_size import size
from tests.planning.honest_plans import write_honest_plan
from tests.planning.joint_oracle import JointOptimum, dual_of, optimum_of
from tests.planning.joint_worlds import JointWorld, joint_world_from_seed
from tests.planning.planted_faults import PLANTED, change_report, report
from tests.planning.test_joint_oracle import asked, runs
from tests.test_oracles import node

SOUND_DIRECTORIES = 60
PLANTED_AT_MOST = size(2, 4)
"""Directories that each fault is planted in."""

Sound = Callable[[int], Path | None]


def prices(world: JointWorld, seed: int) -> dict[str, int]:
    """Around the asks, below and above; whole numbers, so that the twin is exact."""
    random = Random(seed)
    factor, extra = (0, 1, 1, 2), (0, 0, 7, 123_457)
    return {
        n["node_id"]: random.choice(factor) * n["ask_micro_usd_per_gpu_hour"] + random.choice(extra)
        for n in world.fleet
    }


def relay() -> JointWorld:
    """r0 must leave a failing node for n1, which r1 leaves for n2: only in this order do the moves fit."""
    suppliers = ("s0", "s1", "s2")
    fleet = [node(f"n{i}", 10, supplier_id=s, free=8 * (i == 2)) for i, s in enumerate(suppliers)]
    fleet[0]["state"] = "DRAINING"
    requests = [asked("r0", 8, 90, allowed_suppliers=["s1"]), asked("r1", 8, 90)]
    return JointWorld(fleet, [], requests, [runs("r0", "n0", 8), runs("r1", "n1", 8)], 1, 5)


def world_of(number: int) -> JointWorld:
    return relay() if number == 0 else joint_world_from_seed(number)


@cache
def best_of(number: int) -> JointOptimum:
    return optimum_of(world_of(number))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """An honest directory by its number, written when it is first asked for; None where no order of moves is."""
    root = tmp_path_factory.mktemp("sound")

    @cache
    def directory(number: int) -> Path | None:
        world = world_of(number)
        written = write_honest_plan(world, best_of(number), prices(world, number), root / str(number))
        return root / str(number) if written else None

    return directory


@pytest.mark.parametrize("number", range(size(30, SOUND_DIRECTORIES)))
def test_an_honest_plan_holds_and_both_compute_the_same_bound(
    sound: Sound, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_bound, "FIRST_NODES", 1 + number % 3)  # a fleet longer than the first look
    directory, world = sound(number), world_of(number)
    if directory is None:
        pytest.skip("the best placement cannot be reached move by move")
    found = check_plan(directory)
    assert found.faults == ()
    assert found.welfare_micro_usd_per_hour == best_of(number).welfare_micro_usd_per_hour
    assert found.dual_micro_usd_per_hour == pytest.approx(
        dual_of(world, prices(world, number)), rel=1e-12, abs=1e-3
    )


@pytest.mark.parametrize(("status", "is_optimum"), [("FEASIBLE", False), ("OPTIMAL", True)])
def test_what_no_price_proves_is_told_as_a_claim(
    sound: Sound, tmp_path: Path, status: str, is_optimum: bool
) -> None:
    """Law: a stronger bound, and an OPTIMAL that rests on it alone, are the report's word, not the checker's."""
    directory = copied(sound, tmp_path)
    assert report(directory)["gap"] > 0.001
    change_report(directory, status=status)
    found = check_plan(directory)
    assert found.holds
    assert found.claimed == Claim(found.welfare_micro_usd_per_hour, "CP-SAT", is_optimum)
    change_report(directory, status="FEASIBLE", stronger_bound_micro_usd_per_hour=None, stronger_gap=None)
    assert check_plan(directory).holds and check_plan(directory).claimed is None


@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_fault_is_found(sound: Sound, tmp_path: Path, name: str) -> None:
    plant, code = PLANTED[name]
    planted = 0
    for number in range(SOUND_DIRECTORIES):
        directory, copy = sound(number), tmp_path / str(number)
        if directory is None:
            continue
        shutil.copytree(directory, copy)
        if plant(copy):
            planted += 1
            assert code in {fault.code for fault in check_plan(copy).faults}
        if planted == PLANTED_AT_MOST:
            break
    assert planted, "no directory offers an occasion"


def test_supplier_shares_hold_within_a_star_not_across_stars(tmp_path: Path) -> None:
    """A supplier that is cheapest in one place and needed in another gives its share in either."""
    fleet = [node("far", 1, site="syd1", supplier_id="s0")]
    fleet += [node(f"near-{s}", 9, site="iad1", supplier_id=s) for s in ("s0", "s1")]
    request = asked("r", 12, 90, gpus_per_node=4, max_cluster_rtt_ms=1.0, max_supplier_share=0.7)
    world = JointWorld(fleet, [], [request], [], 0, 0)
    price = {"far": 1, "near-s0": 9, "near-s1": 9}
    assert write_honest_plan(world, optimum_of(world), price, tmp_path / "plan")
    found = check_plan(tmp_path / "plan")
    assert found.faults == ()
    assert found.dual_micro_usd_per_hour == 12 * (90 - 9)


# -------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize("name", ["plan", "node_prices", "refusals", "moves", "inputs/fleet", "inputs/requests"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 and nothing"])
def test_a_missing_or_broken_file_is_named(sound: Sound, tmp_path: Path, name: str, content: bytes | None) -> None:
    path = copied(sound, tmp_path) / f"{name}.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=path.name):
        check_plan(tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "column", "value", "complaint"),
    [
        ("plan", "gpus", 0, "plan.parquet row 0 column gpus"),
        ("plan", "gpus", None, "plan.parquet row 0 column gpus"),
        ("plan", "price_micro_usd_per_gpu_hour", -1, "plan.parquet row 0 column price"),
        ("node_prices", "shadow_price_micro_usd_per_gpu_hour", -0.5, "node_prices.parquet row 0 column shadow"),
        ("node_prices", "shadow_price_micro_usd_per_gpu_hour", float("nan"), "row 0 column shadow"),
        ("node_prices", "shadow_price_micro_usd_per_gpu_hour", float("inf"), "row 0 column shadow"),
        ("refusals", "reason", "BECAUSE", "refusals.parquet row 0 column reason"),
        ("node_prices", "node_id", "n1", "several prices"),
        ("node_prices", "node_id", "stranger", "no node of the fleet"),
        ("inputs/fleet", "gpu_free", -1, "fleet.parquet row 0 column gpu_free"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_row(
    sound: Sound, tmp_path: Path, name: str, column: str, value: object, complaint: str
) -> None:
    path = copied(sound, tmp_path) / f"{name}.parquet"
    rows = pl.read_parquet(path).to_dicts() or [{"request_id": "r0", "reason": "", "detail": ""}]
    rows[0][column] = value
    pl.DataFrame(rows, schema=pl.read_parquet_schema(path)).write_parquet(path)
    with pytest.raises(InvalidInput, match=complaint):
        check_plan(tmp_path / "copy")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"status": 1}', '{"move_cost_micro_usd": -1}'])
def test_a_broken_report_is_named(sound: Sound, tmp_path: Path, text: str | None) -> None:
    path = copied(sound, tmp_path) / "report.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match=r"report\.json"):
        check_plan(tmp_path / "copy")


def test_strange_names_and_repeated_rows_are_found(sound: Sound, tmp_path: Path) -> None:
    path = copied(sound, tmp_path) / "plan.parquet"
    plan = pl.read_parquet(path)
    stranger = plan.head(1).with_columns(request_id=pl.lit("nobody"))
    nowhere = plan.head(1).with_columns(node_id=pl.lit("nowhere"))
    pl.concat([plan, plan.head(1), stranger, nowhere]).write_parquet(path)
    codes = {fault.code for fault in check_plan(tmp_path / "copy").faults}
    assert {FaultCode.UNKNOWN_NAME, FaultCode.DUPLICATE_ROW} <= codes


def copied(sound: Sound, tmp_path: Path) -> Path:
    directory = sound(0)
    assert directory is not None
    shutil.copytree(directory, tmp_path / "copy")
    return tmp_path / "copy"
