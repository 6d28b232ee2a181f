"""Reading and taking rows of nodes in one pass equals doing it column by column (solvers.node_rows)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.tiers import NodeState
from solvers.node_rows import COLUMNS, MARKET, STATE, UNUSED, columns_of, take_gpus

SEEDS = st.integers(0, 10_000)


def table_from(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(a table of nodes, some of them, GPUs for each, posted prices)."""
    draws = np.random.default_rng(seed)
    table = draws.integers(0, 5, (draws.integers(1, 20), COLUMNS))
    table[:, STATE] %= len(NodeState)
    nodes = draws.permutation(table.shape[0])[: draws.integers(0, 20)]
    return table, nodes, draws.integers(-8, 8, nodes.size), draws.integers(0, 1_000, 5)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_columns_are_those_of_the_table(seed: int) -> None:
    """Law: each column is that of the nodes, in their order, and the last one the price of their market."""
    table, nodes, _, posted = table_from(seed)
    *columns, prices = columns_of(table, nodes, posted)
    for number, column in enumerate(columns):
        assert (column == table[nodes, number]).all()
    assert (prices == posted[table[nodes, MARKET]]).all()


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_taking_changes_what_is_unused_and_nothing_else(seed: int) -> None:
    """Law: unused falls by what is taken; READY nodes show it as free, others nothing; giving back undoes it."""
    table, nodes, gpus, _ = table_from(seed)
    before, expected = table.copy(), table.copy()
    expected[nodes, UNUSED] -= gpus
    free = take_gpus(table, nodes, gpus)
    assert (table == expected).all()
    is_ready = table[nodes, STATE] == int(NodeState.READY)
    assert (free == np.where(is_ready, table[nodes, UNUSED], 0)).all()
    take_gpus(table, nodes, -gpus)
    assert (table == before).all()
