"""Bounding every model, small ones by HiGHS and large ones by branching, and what that says about a plan's gap."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.score import checked_welfare
from benchmarks.stronger_bound.blocks import block_of
from benchmarks.stronger_bound.branch import Tree
from benchmarks.stronger_bound.offers import offers_of, pairs_in
from benchmarks.stronger_bound.program import MICRO_USD_PER_USD, Program, dual_bound, program_of
from benchmarks.stronger_bound.split import Split, split_of, worth_of_plan
from solvers.planning.moves import Placements
from solvers.planning.prepare import prepare
from solvers.planning.problem import Problem

Float = NDArray[np.float64]
WORKERS = 2
USD_BILLION = 1e9
SHARE_LEAST = 0.004
"""Of Σ S_b: models with less keep their share of D, which all together is 1 or 2 % of it."""
ROWS_MOST = 5_000
"""Models with more rows keep it, too, unless asked for: their linear programs take minutes."""
Curve = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Proof:
    """A plan between two bounds, micro-USD per hour. Per model, (models,): `share` of D, `proven`, `plan`.

    `dual`: D at our prices. `tried` (models,): models that were bounded anew. `curve`: (leaves of every model that
    was branched on, bound), the first with prices and seats alone.
    """

    welfare: float
    dual: float
    settled: float
    share: Float
    proven: Float
    plan: Float
    tried: NDArray[np.bool_]
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def bound(self) -> float:
        """The stronger bound: never above D."""
        return min(self.dual, self.settled + float(np.minimum(self.share, self.proven).sum()))

    def figures(self) -> dict[str, float]:
        """Gaps to D and to the stronger bound; of what D's gap is, how much is shown to be the bound's.

        The `tried_` ones are about the models that were tried alone; `tried_share` is theirs of Σ S_b.
        """
        at = self.tried

        def part(column: Float) -> float:
            return float(column[at].sum())

        lower = np.minimum(self.share, self.proven)
        found = {
            "gap": (self.dual - self.welfare) / self.dual,
            "stronger_gap": (self.bound - self.welfare) / self.bound,
            "bounds_share_of_gap": (self.dual - self.bound) / max(self.dual - self.welfare, 1.0),
            "models_tried": float(at.sum()),
            "tried_share": part(self.share) / max(float(self.share.sum()), 1.0),
        }
        if at.any():
            lost = part(self.share) - part(self.plan)
            found["tried_gap"] = lost / part(self.share)
            found["tried_stronger_gap"] = (part(lower) - part(self.plan)) / part(lower)
            found["tried_bounds_share_of_gap"] = (part(self.share) - part(lower)) / lost
        return found

    def table(self) -> str:
        """The figures, then the models that were tried, the largest first."""
        lines = [f"{name} {value:.4f}" for name, value in self.figures().items()]
        lines += [f"{leaves} leaves a model: {1 - bound / self.dual:.4%} below D" for leaves, bound in self.curve]
        for model in np.argsort(-self.share):
            if self.tried[model]:
                share, proven, plan = (
                    float(column[model]) / USD_BILLION for column in (self.share, self.proven, self.plan)
                )
                lines.append(f"model {model}: share of D {share:.3f}, proven {proven:.3f}, plan {plan:.3f}")
        return "\n".join(lines)


def prove(
    problem: Problem,
    placed: Placements,
    limit_s: float,
    pairs_max: int,
    leaves: int = 0,
    rows_max: int = ROWS_MOST,
) -> Proof:
    """Bound a problem in which nothing runs. `limit_s`: HiGHS's, for each model of at most `pairs_max` pairs.

    Other models with more than SHARE_LEAST of Σ S_b and at most `rows_max` rows get `leaves` each, if any.
    """
    split = split_of(prepare(problem))
    programs = programs_of(split, pairs_max)
    proven = split.share.copy()
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        waiting = {model: pool.submit(dual_bound, program, limit_s) for model, program in programs.items()}
        for model, answer in waiting.items():
            found = answer.result()
            proven[model] = np.inf if found is None else found * MICRO_USD_PER_USD
            print(f"model {model}: {proven[model] / split.share[model] - 1:+.3%}", file=sys.stderr, flush=True)
    branched = branched_on(split, leaves, rows_max, list(programs)) if leaves else {}
    for model, curve in branched.items():
        proven[model] = curve[-1][1]
    tried = np.isin(np.arange(proven.size), [*programs, *branched])
    plan = worth_of_plan(split, problem, placed)
    welfare = float(checked_welfare(problem, placed))
    return Proof(
        welfare,
        split.dual.bound,
        split.settled,
        split.share,
        proven,
        plan,
        tried,
        added_up(split, proven, branched),
    )


def branched_on(split: Split, leaves: int, rows_max: int, done: list[int]) -> dict[int, Curve]:
    """The curves of the trees of all models that matter but those that are done, the largest first."""
    curves: dict[int, Curve] = {}
    rows = np.diff(split.prepared.rows.model_start)
    for model in np.argsort(-split.share).tolist():
        matters = split.share[model] > SHARE_LEAST * split.share.sum() and rows[model] <= rows_max
        if matters and model not in done:
            tree = Tree(block_of(split, model))
            tree.grow(leaves)
            curves[model] = tree.curve
            print(f"model {model}: {tree.bound / split.share[model] - 1:+.3%}", file=sys.stderr, flush=True)
    return curves


def added_up(split: Split, proven: Float, branched: dict[int, Curve]) -> tuple[tuple[int, float], ...]:
    """The bound of the whole after so many leaves of each tree; the other models as proven."""
    if not branched:
        return ()
    proven = np.minimum(split.share, proven)
    most = max(curve[-1][0] for curve in branched.values())
    steps = [2**power for power in range(most.bit_length())] + [most]
    found = []
    for leaves in dict.fromkeys(steps):
        now = proven.copy()
        for model, curve in branched.items():
            now[model] = min(split.share[model], [bound for count, bound in curve if count <= leaves][-1])
        found.append((leaves, split.settled + float(now.sum())))
    return tuple(found)


def programs_of(split: Split, pairs_max: int) -> dict[int, Program]:
    """The programs by model, those with few gangs and rows first; models with no share of D have none."""
    pairs = {model: pairs_in(split, model) for model in np.flatnonzero(split.share > 0).tolist()}
    small = sorted(model for model, count in pairs.items() if 0 < count <= pairs_max)
    return {
        model: program_of(split.prepared, model, offers_of(split, model))
        for model in sorted(small, key=lambda model: pairs[model])
    }
