"""The bound by seats and branching: never below the best plan, and a bound that lost something is found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.instances import standard
from benchmarks.peers.price_then_greedy import price_then_greedy
from benchmarks.stronger_bound.blocks import IN, OUT, Block, block_of
from benchmarks.stronger_bound.branch import Tree
from benchmarks.stronger_bound.prove import prove
from benchmarks.stronger_bound.split import Split
from engine.planning.encode import encode
from tests.benchmarks.test_stronger_bound import WORLDS, optimum, split_in

pytest.importorskip("scipy")
LEAVES = 12


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Split]:
    return {seed: split_in(seed, tmp_path_factory.mktemp("world")) for seed in WORLDS}


def trees_of(split: Split, broken: Callable[[Block], Block] | None = None) -> dict[int, Tree]:
    models = [model for model in range(split.share.size) if split.share[model] > 0 and split.reach[:, model].any()]
    blocks = {model: block_of(split, model) for model in models}
    trees = {model: Tree(broken(block) if broken else block) for model, block in blocks.items()}
    for tree in trees.values():
        tree.grow(LEAVES)
    return trees


def bound_of(split: Split, trees: dict[int, Tree]) -> float:
    proven = split.share.copy()
    for model, tree in trees.items():
        proven[model] = min(proven[model], tree.bound)
    return split.settled + float(proven.sum())


def test_law_no_plan_is_above_the_bound(splits: dict[int, Split]) -> None:
    tighter, branched = 0, 0
    for seed, split in splits.items():
        trees = trees_of(split)
        bound = bound_of(split, trees)
        assert bound >= optimum(seed) * (1 - 1e-9)
        tighter += bound < split.dual.bound * (1 - 1e-6)
        branched += sum(tree.bounded > 1 for tree in trees.values())
    assert tighter > 0
    assert branched > 0


def test_a_lost_leaf_is_found(splits: dict[int, Split]) -> None:
    found = 0
    for seed, split in splits.items():
        trees = trees_of(split)
        for tree in trees.values():
            if len(tree.leaves) > 1:
                tree.leaves = [max(tree.leaves, key=lambda leaf: leaf[0])]  # all but the lowest
        found += bound_of(split, trees) < optimum(seed) * (1 - 1e-6)
    assert found > 0


def test_seats_too_few_are_found(splits: dict[int, Split]) -> None:
    def broken(block: Block) -> Block:
        return replace(block, seats=block.seats._replace(count=block.seats.count - 1))

    assert any(
        bound_of(split, trees_of(split, broken)) < optimum(seed) * (1 - 1e-6) for seed, split in splits.items()
    )


def test_law_every_side_of_a_branch_counts_what_it_says(splits: dict[int, Split]) -> None:
    """IN without max(0, ·), OUT not at all: D with the gang free is the larger of the two."""
    compared = 0
    for split in splits.values():
        for model in np.flatnonzero(split.share > 0).tolist():
            if not split.reach[:, model].any():
                continue
            block = block_of(split, model)
            fee, free = np.full(block.seats.count.size, 1.0), np.zeros(block.gang.size, dtype=np.int64)
            whole = block.value(block.row_price(), fee, free)
            for gang in np.flatnonzero(np.isfinite(whole.surplus)).tolist():
                sides = []
                for side in (IN, OUT):
                    decided = free.copy()
                    decided[gang] = side
                    sides.append(block.value(block.row_price(), fee, decided).bound)
                assert max(sides) == pytest.approx(whole.bound, rel=1e-12)
                assert sides[0] - sides[1] == pytest.approx(whole.surplus[gang], rel=1e-9, abs=1e-3)
                compared += 1
    assert compared > 0


def test_the_proof_reports_its_curve() -> None:
    queue = encode(standard(1.3, requests=60, nodes=300).inputs(), 0, 0).problem
    proof = prove(queue, price_then_greedy(queue, 1.0), 1.0, 0, LEAVES)
    bounds = [bound for _, bound in proof.curve]
    assert proof.welfare <= proof.bound <= proof.dual
    assert bounds == sorted(bounds, reverse=True)
    assert min(proof.dual, bounds[-1]) == pytest.approx(proof.bound, rel=1e-12)
    assert "leaves a model" in proof.table()
