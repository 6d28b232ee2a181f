"""Cuts of a search: parts touch disjoint models, gangs of one model are inside, the same seed cuts alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from solvers.planning import parts
from solvers.planning.parts import Reach, cut


@st.composite
def reaches(draw: st.DrawFn) -> tuple[Reach, NDArray[np.bool_]]:
    """Gangs of some kinds, and which of them may be served."""
    models = draw(st.integers(1, 7))
    sets = st.lists(st.booleans(), min_size=models, max_size=models)
    kinds = np.array(draw(st.lists(sets, min_size=1, max_size=6)), dtype=bool)
    kind_of = np.array(draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=40)))
    able = np.array(draw(st.lists(st.booleans(), min_size=kind_of.size, max_size=kind_of.size)))
    return reach_from(kinds, kind_of), able


def reach_from(kinds: NDArray[np.bool_], kind_of: NDArray[np.int64]) -> Reach:
    counted = kinds[kind_of].astype(np.float32)
    return Reach(kinds[kind_of], counted.T @ counted, kinds, kind_of)


@given(reaches(), st.integers(0, 2**32))
def test_parts_touch_disjoint_models_and_hold_whoever_fits_inside(
    made: tuple[Reach, NDArray[np.bool_]], seed: int
) -> None:
    reach, able = made
    owner, count = cut(reach, able, np.random.default_rng(seed))
    assert owner.shape == able.shape and owner.min() >= -1 and owner.max() < count
    assert not (owner[~able] >= 0).any()
    parts_of_model = [np.unique(owner[(owner >= 0) & reach.models[:, m]]) for m in range(reach.models.shape[1])]
    assert all(found.size <= 1 for found in parts_of_model)
    single = able & (reach.models.sum(axis=1) == 1)
    assert (owner[single] >= 0).all(), "a gang of one model reaches over no border"
    again = cut(reach, able, np.random.default_rng(seed))
    assert np.array_equal(again[0], owner) and again[1] == count


def test_the_best_of_several_cuts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller the largest part, the sooner a pass ends; what no part holds waits for the next."""
    random = np.random.default_rng(5)
    kinds = np.eye(9, dtype=bool) | (random.random((9, 9)) < 0.1)
    reach = reach_from(kinds, random.integers(0, 9, 400))
    able = np.ones(400, dtype=bool)

    def worth(draws: int, seed: int) -> float:
        monkeypatch.setattr(parts, "DRAWS", draws)
        owner, count = cut(reach, able, np.random.default_rng(seed))
        filled = np.bincount(owner[owner >= 0], minlength=count)
        return float(filled.sum() ** 2 / filled.max())

    of_one, of_six = ([worth(draws, seed) for seed in range(40)] for draws in (1, 6))
    assert all(six >= one for one, six in zip(of_one, of_six, strict=True)), "the first drawn is the same"
    assert sum(of_six) > 1.02 * sum(of_one)
