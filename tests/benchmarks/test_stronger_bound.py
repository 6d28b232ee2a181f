"""The stronger bound: never below the best plan, never above D, and a program that lost something is found out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.instances import standard
from benchmarks.peers.price_then_greedy import price_then_greedy
from benchmarks.peers.score import welfare_of
from benchmarks.stronger_bound.offers import maximal
from benchmarks.stronger_bound.program import MICRO_USD_PER_USD, Program, dual_bound
from benchmarks.stronger_bound.prove import programs_of, prove
from benchmarks.stronger_bound.split import Split, split_of, worth_of_plan
from engine.planning.encode import encode
from engine.planning.inputs import InputPaths, read_inputs
from solvers.planning.prepare import prepare
from solvers.planning.problem import Problem
from tests.full_size import size
from tests.planning.joint_oracle import optimum_of
from tests.planning.joint_worlds import JointWorld, joint_world_from_seed, write

pytest.importorskip("scipy")
LIMIT_S = 30.0
NO_LIMIT = 1_000_000
WORLDS = range(size(15, 400))


def idle(seed: int) -> JointWorld:
    world = joint_world_from_seed(seed)
    return replace(world, placements=[])


@cache
def optimum(seed: int) -> int:
    return optimum_of(idle(seed)).welfare_micro_usd_per_hour


def split_in(seed: int, directory: Path) -> Split:
    write(idle(seed), directory)
    names = {name: directory / f"{name}.parquet" for name in ("fleet", "requests", "rtt")}
    paths = InputPaths(**{name: path for name, path in names.items() if path.exists()})
    return split_of(prepare(encode(read_inputs(paths), 0, 0).problem))


def bound_of(split: Split, programs: dict[int, Program]) -> float:
    proven = split.share.copy()
    for model, program in programs.items():
        found = dual_bound(program, LIMIT_S)
        assert found is not None
        proven[model] = min(proven[model], found * MICRO_USD_PER_USD)
    return split.settled + float(proven.sum())


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Split]:
    return {seed: split_in(seed, tmp_path_factory.mktemp("world")) for seed in WORLDS}


@pytest.fixture(scope="module")
def queue() -> Problem:
    return encode(standard(1.3, requests=60, nodes=300).inputs(), 0, 0).problem


def test_law_no_plan_is_above_the_bound(splits: dict[int, Split]) -> None:
    tighter = 0
    for seed, split in splits.items():
        bound = bound_of(split, programs_of(split, NO_LIMIT))
        assert bound >= optimum(seed) * (1 - 1e-9)
        tighter += bound < split.dual.bound * (1 - 1e-6)
    assert tighter > 0


@pytest.mark.parametrize("planted", ["a column is lost", "a row is overfull before it is used"])
def test_a_program_that_cuts_plans_off_is_found(splits: dict[int, Split], planted: str) -> None:
    def broken(program: Program) -> Program:
        users = np.flatnonzero(program.most > 1)
        if planted == "a column is lost":
            most = program.most.copy()
            most[users[:1]] = 0
            return replace(program, most=most)
        return replace(program, most=np.where(program.objective < 0, np.floor(program.most / 2), program.most))

    found = 0
    for seed, split in splits.items():
        programs = {model: broken(program) for model, program in programs_of(split, NO_LIMIT).items()}
        found += bound_of(split, programs) < optimum(seed) * (1 - 1e-6)
    assert found > 0


def test_law_the_split_adds_up(queue: Problem) -> None:
    split = split_of(prepare(queue))
    placed = price_then_greedy(queue, 1.0)
    assert split.bound >= split.dual.bound * (1 - 1e-9)
    assert (worth_of_plan(split, queue, placed) <= split.share * (1 + 1e-9) + 1.0).all()
    assert split.settled + worth_of_plan(split, queue, placed).sum() >= welfare_of(queue, placed)


def test_the_proof_lies_between_plan_and_prices(queue: Problem) -> None:
    proof = prove(queue, price_then_greedy(queue, 1.0), LIMIT_S, NO_LIMIT)
    figures = proof.figures()
    assert proof.welfare <= proof.bound <= proof.dual
    assert 0 < figures["bounds_share_of_gap"] <= 1
    assert figures["stronger_gap"] < figures["gap"]
    assert "model" in proof.table()


def test_a_model_too_large_keeps_its_share(queue: Problem) -> None:
    proof = prove(queue, price_then_greedy(queue, 1.0), LIMIT_S, 0)
    assert proof.bound == proof.dual
    assert not proof.tried.any()


def test_groups_within_others_are_left_out() -> None:
    groups = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 0]], dtype=bool)
    assert maximal(groups).tolist() == [[False, True, True], [True, True, False]]
