"""Small fleets and kinds of pods, drawn by Hypothesis: few nodes, two models, parts that are whole levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from solvers.sharing.fleet import CARD_MILLI, Int, Machines, Shapes, SharedFleet

MODELS = 2
PODS = st.tuples(
    st.sampled_from([0, 1_000, 3_000, 4_000, 9_000]),
    st.sampled_from([0, 10, 25]),
    st.sampled_from([0, 1, 1, 1, 1, 2, 3]),
    st.sampled_from([100, 190, 330, 470, 500, 810, 1_000]),
    st.sampled_from([(True, True), (True, True), (True, False), (False, True)]),
)
NODES = st.tuples(
    st.integers(0, MODELS - 1),
    st.integers(1, 3),
    st.sampled_from([4_000, 8_000, 12_000]),
    st.sampled_from([40, 60]),
)


@dataclass(frozen=True)
class SmallFleet:
    """Kinds of pods, machines, and kinds in order of arrival."""

    shapes: Shapes
    machines: Machines
    arrivals: Int


def shapes_of(rows: list[tuple[int, int, int, int, tuple[bool, bool]]]) -> Shapes:
    """From rows (cpu, memory, gpus, milli per GPU, accepted models)."""
    cpu, memory, gpus = (np.array([row[column] for row in rows], dtype=np.int64) for column in range(3))
    milli = [row[3] if row[2] == 1 else CARD_MILLI * (row[2] > 0) for row in rows]
    return Shapes(cpu, memory, gpus, np.array(milli, dtype=np.int64), np.array([row[4] for row in rows]))


def machines_of(rows: list[tuple[int, int, int, int]]) -> Machines:
    """From rows (model, gpus, cpu, memory)."""
    model, gpus, cpu, memory = (np.array([row[column] for row in rows], dtype=np.int64) for column in range(4))
    return Machines(model, gpus, cpu, memory)


@st.composite
def small_fleets(draw: st.DrawFn, most_nodes: int = 5, most_pods: int = 40) -> SmallFleet:
    """Any mixture of kinds, on nodes of which several may be equal."""
    pods = draw(st.lists(PODS, min_size=1, max_size=5))
    nodes = draw(st.lists(NODES, min_size=1, max_size=3))
    twice = draw(st.lists(st.sampled_from(nodes), max_size=most_nodes - len(nodes)))
    arrivals = draw(st.lists(st.integers(0, len(pods) - 1), min_size=1, max_size=most_pods))
    return SmallFleet(shapes_of(pods), machines_of(nodes + twice), np.array(arrivals, dtype=np.int64))


def started(small: SmallFleet, seed: int) -> SharedFleet:
    """The fleet after some arrivals were placed at random: nodes in all kinds of states."""
    fleet, draw = SharedFleet(small.machines), np.random.default_rng(seed)
    for shape in small.arrivals.tolist():
        places = places_of(small.shapes, fleet, shape)
        if places:
            fleet.take(small.shapes, shape, *places[draw.integers(len(places))])
    return fleet


def places_of(shapes: Shapes, fleet: SharedFleet, shape: int) -> list[tuple[int, int]]:
    """Every (node, card) that would hold the pod, by the rules as they are said."""
    found = []
    for node in range(fleet.machines.gpus.size):
        left = fleet.card_left[node, : fleet.machines.gpus[node]]
        if fleet.cpu_left[node] < shapes.cpu_milli[shape] or fleet.memory_left[node] < shapes.memory_mib[shape]:
            continue
        if shapes.gpus[shape] == 0:
            found.append((node, -1))
        elif not shapes.models[shape, fleet.machines.model[node]]:
            continue
        elif shapes.gpu_milli[shape] == CARD_MILLI:
            found += [(node, -1)] if (left == CARD_MILLI).sum() >= shapes.gpus[shape] else []
        else:
            found += [(node, card) for card in range(left.size) if left[card] >= shapes.gpu_milli[shape]]
    return found
