"""What is prepared of a problem, array by array, against slow twins that take one shape and row at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.instances import Instance
from engine.datasets.synthetic import synthetic_fleet, synthetic_requests, synthetic_rtt
from engine.planning.encode import encode
from solvers.planning import side_by_side
from solvers.planning.choices import Choices
from solvers.planning.fold import (
    CAPACITY,
    CERTIFICATIONS,
    CONNECTIVITY,
    FABRIC,
    G_CERTIFICATIONS,
    G_CONNECTIVITY,
    G_FABRIC,
    G_INTERCONNECT,
    G_LIMIT,
    G_MODELS,
    G_NEED,
    G_ONE_MODEL,
    G_ONLY_FABRIC,
    G_RELIABILITY,
    G_REPLICA,
    G_SITES,
    G_SUPPLIERS,
    G_TIER,
    INTERCONNECT,
    MODEL,
    RELIABILITY,
    SITE,
    SUPPLIER,
    TIER,
)
from solvers.planning.listing import CLOSE_SEGMENTS, FEW_SEGMENTS
from solvers.planning.prepare import Prepared, prepare
from solvers.planning.problem import Problem
from tests.solvers.planning.small_problems import small_problem

Choice = tuple[list[tuple[int, int]], int, int, int, int]
"""Segments, mask, model, fabric, room."""
GPUS, REQUESTS = 12_000, 250


def broad(seed: int) -> Problem:
    """Many sites and fabrics, and every kind of constraint."""
    fleet = synthetic_fleet(GPUS, seed)
    queue = synthetic_requests(fleet, REQUESTS, seed, 1.1)
    return encode(Instance(fleet, synthetic_rtt(fleet, seed), queue).inputs(), 0, 0).problem


PROBLEMS = [*(lambda seed=seed: small_problem(seed, nodes=30, gangs=24) for seed in range(12)), lambda: broad(3)]


@pytest.fixture(scope="module", params=range(len(PROBLEMS)))
def prepared(request: pytest.FixtureRequest) -> Prepared:
    return prepare(PROBLEMS[request.param]())


def may_use(prepared: Prepared, want: np.ndarray) -> np.ndarray:
    """Rows that a shape may use, (rows,)."""
    problem, have = prepared.problem, prepared.rows.table.T
    return (
        problem.model_sets[want[G_MODELS]][have[MODEL]]
        & problem.site_sets[want[G_SITES]][have[SITE]]
        & problem.supplier_sets[want[G_SUPPLIERS]][have[SUPPLIER]]
        & (have[TIER] >= want[G_TIER])
        & (have[CERTIFICATIONS] & want[G_CERTIFICATIONS] == want[G_CERTIFICATIONS])
        & (have[CONNECTIVITY] >= want[G_CONNECTIVITY])
        & (have[INTERCONNECT] >= want[G_INTERCONNECT])
        & (have[RELIABILITY] >= want[G_RELIABILITY])
        & (have[CAPACITY] >= want[G_REPLICA])
        & ((have[FABRIC] >= 0) | (want[G_FABRIC] == 0))
        & ((have[FABRIC] == want[G_ONLY_FABRIC]) | (want[G_ONLY_FABRIC] < 0))
    )


def test_rows_of_shapes(prepared: Prepared) -> None:
    """Law: bits and lists of a shape's rows are those that keep each of its rules."""
    shapes, count = prepared.shapes, prepared.rows.table.shape[0]
    for number, want in enumerate(shapes.table):
        rows = np.flatnonzero(may_use(prepared, want))
        assert np.array_equal(shapes.rows[shapes.first[number] : shapes.first[number + 1]], rows)
        bits = np.unpackbits(shapes.bits[number].view(np.uint8), bitorder="little")
        assert np.array_equal(np.flatnonzero(bits), rows) and bits.size >= count


def choices_of_shape(prepared: Prepared, number: int, masks: np.ndarray, limits: int) -> Iterator[Choice]:
    """What a shape may choose from."""
    want, shapes, rows = prepared.shapes.table[number], prepared.shapes, prepared.rows
    mine = shapes.rows[shapes.first[number] : shapes.first[number + 1]].astype(int)
    model_of = rows.table[mine, MODEL]
    for part in [mine[model_of == model] for model in np.unique(model_of)] if want[G_ONE_MODEL] else [mine]:
        model = int(rows.table[part[0], MODEL]) if want[G_ONE_MODEL] and part.size else -1
        if not part.size or room(prepared, want, part) < want[G_NEED]:
            continue
        if want[G_FABRIC]:
            yield from on_a_fabric(prepared, want, part, model, masks.shape[1], limits)
        elif want[G_LIMIT] < limits:
            yield from close_by(prepared, want, part, model, masks)
        else:
            yield anywhere(prepared, part), -1, model, -1, room(prepared, want, part)


def room(prepared: Prepared, want: np.ndarray, rows: np.ndarray) -> int:
    """Whole replicas that fit on some rows."""
    nodes = np.diff(prepared.rows.start)[rows]
    return int((nodes * (prepared.rows.table[rows, CAPACITY] // want[G_REPLICA])).sum())


def segment(starts: np.ndarray, number: int) -> tuple[int, int]:
    return int(starts[number]), int(starts[number + 1])


def on_a_fabric(
    prepared: Prepared, want: np.ndarray, part: np.ndarray, model: int, sites: int, limits: int
) -> Iterator[Choice]:
    table, segments = prepared.rows.table, prepared.segments
    for fabric in np.unique(table[part, FABRIC]).tolist():
        rows = part[table[part, FABRIC] == fabric]
        if room(prepared, want, rows) < want[G_NEED]:
            continue
        numbers = list(dict.fromkeys(segments.fabric_of_row[rows].tolist()))
        here = list(dict.fromkeys(table[rows, SITE].tolist()))
        masked = len(here) > 1 and want[G_LIMIT] < limits
        of_model = [site for row, site in zip(rows, table[rows, SITE].tolist(), strict=True)]
        around = [site for at, site in enumerate(of_model) if not at or site != of_model[at - 1]]
        for mask in [int(want[G_LIMIT]) * sites + site for site in around] if masked else [-1]:
            listed = [segment(segments.fabric, number) for number in numbers]
            yield listed, mask, model, fabric, room(prepared, want, rows)


def close_by(
    prepared: Prepared, want: np.ndarray, part: np.ndarray, model: int, masks: np.ndarray
) -> Iterator[Choice]:
    table, segments = prepared.rows.table, prepared.segments
    seen: set[bytes] = set()
    for site in np.unique(table[part, SITE]).tolist():
        mask = int(want[G_LIMIT]) * masks.shape[1] + site
        near = part[masks[mask, table[part, SITE]]]
        if masks[mask].tobytes() in seen or room(prepared, want, near) < want[G_NEED]:
            continue
        seen.add(masks[mask].tobytes())
        by_site = sorted({(int(table[row, SITE]), -int(segments.site_of_row[row])) for row in near})
        listed = [segment(segments.site, -number) for _, number in by_site]
        if len(listed) > CLOSE_SEGMENTS:
            listed = [segment(segments.model, one) for one in np.unique(table[part, MODEL]).tolist()]
        yield listed, mask, model, -1, room(prepared, want, near)


def anywhere(prepared: Prepared, part: np.ndarray) -> list[tuple[int, int]]:
    table, segments = prepared.rows.table, prepared.segments
    listed = []
    for model in np.unique(table[part, MODEL]).tolist():
        sites = np.unique(segments.site_of_row[part[table[part, MODEL] == model]]).tolist()
        few = len(sites) <= FEW_SEGMENTS
        listed += [segment(segments.site, one) for one in sites] if few else [segment(segments.model, model)]
    return listed


def listed(choices: Choices, number: int) -> list[Choice]:
    """The same from the arrays."""
    rows = choices.table[choices.first[number] : choices.first[number + 1]].tolist()
    return [([(b, e) for b, e in choices.segments[begin:end].tolist()], *rest) for begin, end, *rest in rows]


def test_choices_of_shapes(prepared: Prepared) -> None:
    """Law: for bounds and for plans the choices are those that can hold the gang, found one by one."""
    sites = prepared.problem.site_sets.shape[1]
    for choices in (prepared.relaxed, prepared.placed):
        limits = choices.masks.shape[0] // max(sites, 1)
        for number in range(prepared.shapes.table.shape[0]):
            assert listed(choices, number) == list(choices_of_shape(prepared, number, choices.masks, limits))


def test_preparing_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: lists made in ranges are the list made at once."""
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(side_by_side, "THREADS", threads)
        found.append(prepare(broad(5)))
    for other in found[1:]:
        assert np.array_equal(other.shapes.bits, found[0].shapes.bits)
        for mine, theirs in ((other.relaxed, found[0].relaxed), (other.placed, found[0].placed)):
            for column in ("first", "table", "segments"):
                assert np.array_equal(getattr(mine, column), getattr(theirs, column))
