"""Joint plans with parts of GPUs, CPU and memory: best, proven, sound, and every fault planted there is found."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from engine.planning.certificate import check_plan
from engine.planning.certificate_faults import FaultCode
from engine.planning.report import Report
from tests.full_size import size
from tests.planning.joint_oracle import dual_of, optimum_of
from tests.planning.joint_worlds import JointWorld
from tests.planning.our_plans import plan_world
from tests.planning.planted_faults import Desk, Plant, change_report, read, report, rewrite
from tests.planning.test_certificate import prices
from tests.planning.test_joint_oracle import asked, runs
from tests.planning.tight_joint_worlds import tight_joint_world_from_seed
from tests.test_oracles import node

WORLDS = int(os.environ.get("WALRAS_EXACT_TIGHT_WORLDS", str(size(20, 300))))
BEST_SHARE = 0.99
PLANTED_AT_MOST = 3

Made = Callable[[int], tuple[Path, Report]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A directory that the solver wrote and its report, by seed, made when it is first asked for."""
    root = tmp_path_factory.mktemp("tight")

    @cache
    def plan(seed: int) -> tuple[Path, Report]:
        return root / str(seed), plan_world(tight_joint_world_from_seed(seed), root / str(seed))

    return plan


@pytest.mark.exact
def test_plans_are_optimal_proven_and_sound(made: Made) -> None:
    """The welfare is the CP-SAT optimum in 99 % of the worlds; bound and certificate hold in all of them."""
    worse = []
    for seed in range(WORLDS):
        directory, found = made(seed)
        best = optimum_of(tight_joint_world_from_seed(seed)).welfare_micro_usd_per_hour
        assert check_plan(directory).faults == (), seed
        assert found.welfare_micro_usd_per_hour <= best <= found.bound_micro_usd_per_hour, seed
        if found.welfare_micro_usd_per_hour < best:
            worse.append(seed)
    assert len(worse) <= (1 - BEST_SHARE) * WORLDS, worse


@pytest.mark.parametrize("seed", range(size(20, 60)))
def test_checker_and_twin_compute_the_same_bound(made: Made, tmp_path: Path, seed: int) -> None:
    """D of any prices: a part costs its fraction, and takes a card; CPU and memory limit what a node can give."""
    world, copy = tight_joint_world_from_seed(seed), tmp_path / "copy"
    shutil.copytree(made(seed)[0], copy)
    price = prices(world, seed)
    rows = [{"node_id": n, "shadow_price_micro_usd_per_gpu_hour": float(p)} for n, p in price.items()]
    rewrite(copy, "node_prices", rows)
    found = check_plan(copy).dual_micro_usd_per_hour
    assert found == pytest.approx(float(dual_of(world, price)), rel=1e-12, abs=1e-3)


def test_the_same_queue_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    """Law 10, cards included."""
    for seed in range(5):
        plan_world(tight_joint_world_from_seed(seed), tmp_path / str(seed))
        again, first = ((place / "plan.parquet").read_bytes() for place in (tmp_path / str(seed), made(seed)[0]))
        assert again == first


# --------------------------------------------------------------------------------------------- planted faults


def milli(desk: Desk, row: dict[str, object]) -> int:
    wanted = desk.requests[str(row["request_id"])].get("gpu_milli") or 1_000
    return wanted if wanted < 1_000 else 0


def crowd_a_card(directory: Path) -> bool:
    """A part goes to a card of its node that another one nearly fills; neither of them ran."""
    desk = Desk(directory)
    running = {row["request_id"] for row in desk.running}
    parts = [row for row in desk.plan if milli(desk, row) and row["request_id"] not in running]
    for one in parts:
        for other in parts:
            apart = one["node_id"] == other["node_id"] and one["card"] != other["card"]
            if apart and milli(desk, one) + milli(desk, other) > 1_000:
                one["card"] = other["card"]
                return desk.save_plan()
    return False


def take_a_card_that_is_not_there(directory: Path) -> bool:
    desk = Desk(directory)
    for row in desk.plan:
        if milli(desk, row):
            row["card"] = desk.fleet[row["node_id"]]["gpu_count"]
            return desk.save_plan()
    return False


def forget_the_card(directory: Path) -> bool:
    desk = Desk(directory)
    for row in desk.plan:
        if milli(desk, row):
            row["card"] = None
            return desk.save_plan()
    return False


def change_cards_at_home(directory: Path) -> bool:
    """A part that stays on its node takes another card there, as if that were no move."""
    desk = Desk(directory)
    now = {(row["request_id"], row["node_id"]): row["card"] for row in desk.running}
    for row in desk.plan:
        card = now.get((row["request_id"], row["node_id"]))
        if milli(desk, row) and card is not None and desk.fleet[row["node_id"]]["gpu_count"] > 1:
            row["card"] = 1 if card == 0 else 0
            return desk.save_plan()
    return False


def put_a_part_on_a_full_node(directory: Path) -> bool:
    """A part opens a card where whole GPUs already take all that there are."""
    desk = Desk(directory)
    whole: dict[str, int] = {}
    for row in desk.plan:
        if not milli(desk, row):
            whole[row["node_id"]] = whole.get(row["node_id"], 0) + row["gpus"] - desk.pinned(row)
    shared = {row["node_id"] for row in (*desk.running, *desk.plan) if milli(desk, row)}
    full = [n for n, gpus in whole.items() if gpus and gpus == desk.capacity(n) and n not in shared]
    for row in desk.plan:
        if milli(desk, row) and full:
            row["node_id"], row["card"] = full[0], 0
            return desk.save_plan()
    return False


def shrink(name: str) -> Plant:
    """The fleet turns out to have less CPU or memory than a node gives away."""

    def plant(directory: Path) -> bool:
        desk, fleet = Desk(directory), read(directory, "inputs/fleet")
        needy = {row["node_id"] for row in desk.plan if desk.requests[row["request_id"]].get(name)}
        running = {row["node_id"] for row in desk.running}
        for row in fleet:
            if row["node_id"] in needy - running:
                row[name] = 0
                return rewrite(directory, "inputs/fleet", fleet)
        return False

    return plant


def charge(of_the_whole: Callable[[int, int], int]) -> Plant:
    """A part pays something else of what its node may ask: above the share, no more than the whole."""

    def plant(directory: Path) -> bool:
        desk = Desk(directory)
        shadow = {
            row["node_id"]: row["shadow_price_micro_usd_per_gpu_hour"] for row in read(directory, "node_prices")
        }
        for row in desk.plan:
            if part := milli(desk, row):
                ask = desk.fleet[row["node_id"]]["ask_micro_usd_per_gpu_hour"]
                whole = max(ask, math.ceil(shadow[row["node_id"]]))
                row["price_micro_usd_per_gpu_hour"] = of_the_whole(whole, part)
                if of_the_whole(whole, part) > math.ceil(whole * part / 1_000):  # 999 thousandths of $0.0001
                    return desk.save_plan()
        return False

    return plant


def forget_a_moved_part(directory: Path) -> bool:
    desk = Desk(directory)
    for row in desk.moves:
        if milli(desk, row):
            desk.moves.remove(row)
            return rewrite(directory, "moves", desk.moves)
    return False


def count_a_part_as_whole(directory: Path) -> bool:
    """The welfare with all of the GPU's value and ask for a part."""
    desk = Desk(directory)
    for row in desk.plan:
        if part := milli(desk, row):
            value = desk.requests[row["request_id"]]["max_price_micro_usd_per_gpu_hour"]
            more = (value - desk.fleet[row["node_id"]]["ask_micro_usd_per_gpu_hour"]) * (1_000 - part) // 1_000
            name = "welfare_micro_usd_per_hour"
            return abs(more) > 1 and change_report(directory, **{name: report(directory)[name] + more})
    return False


PLANTED: dict[str, tuple[Plant, FaultCode]] = {
    "card overfull": (crowd_a_card, FaultCode.OVERFULL_CARD),
    "card that is not there": (take_a_card_that_is_not_there, FaultCode.WRONG_CARD),
    "no card": (forget_the_card, FaultCode.WRONG_CARD),
    "another card at home": (change_cards_at_home, FaultCode.WRONG_CARD),
    "card of a full node": (put_a_part_on_a_full_node, FaultCode.OVERFULL_NODE),
    "CPU overfull": (shrink("cpu_milli"), FaultCode.OVERFULL_CPU),
    "memory overfull": (shrink("memory_mib"), FaultCode.OVERFULL_MEMORY),
    "part charged as whole": (charge(lambda whole, _: whole), FaultCode.WRONG_PRICE),
    "part charged above its share": (
        charge(lambda whole, part: -(-whole * part // 1_000) + 1),
        FaultCode.WRONG_PRICE,
    ),
    "moved part forgotten": (forget_a_moved_part, FaultCode.WRONG_MOVES),
    "part counted as whole": (count_a_part_as_whole, FaultCode.WRONG_WELFARE),
}


@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_fault_is_found(made: Made, tmp_path: Path, name: str) -> None:
    plant, code = PLANTED[name]
    planted = 0
    for seed in range(200):
        copy = tmp_path / str(seed)
        shutil.copytree(made(seed)[0], copy)
        if plant(copy):
            planted += 1
            assert code in {fault.code for fault in check_plan(copy).faults}, seed
        if planted == PLANTED_AT_MOST:
            break
    assert planted, "no directory offers an occasion"


# ------------------------------------------------------------------------------------------------ by hand


def planned(world: JointWorld, directory: Path) -> dict[str, tuple[str, int | None, int]]:
    """(node, card, price) of each request that is served, one node each; the certificate holds."""
    plan_world(world, directory)
    assert check_plan(directory).faults == ()
    columns = ("request_id", "node_id", "card", "price_micro_usd_per_gpu_hour")
    frame = pl.read_parquet(directory / "plan.parquet")
    return {r: (n, card, price) for r, n, card, price in frame.select(columns).iter_rows()}


def test_parts_fill_one_card_and_pay_their_shares(tmp_path: Path) -> None:
    """Three parts that fill a card leave the other seven to whole GPUs; each pays its share, rounded up."""
    parts = [asked(f"p{m}", 1, 1_000, gpu_milli=m) for m in (500, 333, 167)]
    world = JointWorld([node("n", 10)], [], [*parts, asked("whole", 7, 90, gpus_per_node=7)], [], 0, 0)
    found = planned(world, tmp_path / "plan")
    assert len(found) == 4 and len({found[f"p{m}"][1] for m in (500, 333, 167)}) == 1
    whole = found["whole"][2]
    assert [found[f"p{m}"][2] for m in (500, 333, 167)] == [math.ceil(whole * m / 1_000) for m in (500, 333, 167)]


def test_a_running_part_keeps_its_card_and_others_join_it(tmp_path: Path) -> None:
    """A pinned part takes its thousandths of its card and no more; there is no other GPU."""
    world = JointWorld(
        [node("n", 10, free=7)],
        [],
        [
            asked("runs", 1, 90, gpu_milli=600),
            asked("whole", 7, 90, gpus_per_node=7),
            asked("fits", 1, 90, gpu_milli=400),
            asked("wide", 1, 90, gpu_milli=401),
        ],
        [runs("runs", "n", 1, movable=False) | {"card": 3}],
        0,
        0,
    )
    found = planned(world, tmp_path / "plan")
    assert found["runs"][:2] == found["fits"][:2] == ("n", 3)
    assert ("whole" in found and "wide" not in found) or ("wide" in found and "whole" not in found)


def test_cpu_and_memory_bind_beside_gpus(tmp_path: Path) -> None:
    """Eight GPUs are free, CPU for two replicas: those who bid most are served, and the refusal says why."""
    fleet = [node("n", 10) | {"cpu_milli": 8_000, "memory_mib": 64}]
    queue = [asked(f"r{bid}", 1, bid, cpu_milli=4_000, memory_mib=40 if bid > 80 else 20) for bid in (70, 80, 90)]
    plan_world(JointWorld(fleet, [], queue, [], 0, 0), tmp_path / "plan")
    assert check_plan(tmp_path / "plan").faults == ()
    assert set(pl.read_parquet(tmp_path / "plan" / "plan.parquet")["request_id"]) == {"r80", "r90"}
    (refusal,) = pl.read_parquet(tmp_path / "plan" / "refusals.parquet").to_dicts()
    assert refusal["request_id"] == "r70" and "4,000 thousandths of a core" in refusal["detail"]


def test_parts_move_where_their_node_drains_and_no_step_crowds_a_card(tmp_path: Path) -> None:
    """The first part can only enter after the second has left its card."""
    suppliers = ("s0", "s1", "s2")
    fleet = [node(f"n{i}", 10, supplier_id=s, free=8 * (i == 2)) for i, s in enumerate(suppliers)]
    fleet[0]["state"] = "DRAINING"
    fleet[1] |= {"gpu_count": 1}
    queue = [asked("r0", 1, 90, gpu_milli=700, allowed_suppliers=["s1"]), asked("r1", 1, 90, gpu_milli=600)]
    running = [runs("r0", "n0", 1) | {"card": 5}, runs("r1", "n1", 1) | {"card": 0}]
    found = planned(JointWorld(fleet, [], queue, running, 1, 50), tmp_path / "plan")
    assert {r: place[0] for r, place in found.items()} == {"r0": "n1", "r1": "n2"}
    moves = pl.read_parquet(tmp_path / "plan" / "moves.parquet").sort("step")
    assert moves["request_id"].to_list() == ["r1", "r0"]


def test_a_queue_without_needs_has_no_card_column(tmp_path: Path) -> None:
    """The files of whole GPUs are as they were."""
    plan_world(JointWorld([node("n", 10)], [], [asked("r", 1, 90, gpu_milli=1_000)], [], 0, 0), tmp_path / "plan")
    assert "card" not in pl.read_parquet(tmp_path / "plan" / "plan.parquet").columns
