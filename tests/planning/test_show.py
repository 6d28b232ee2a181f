"""What people are shown of a plan is what stands in its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from engine.planning import show
from engine.planning.batch import plan_files
from engine.planning.certificate_files import PlanFiles, read_plan_files
from engine.planning.plan_options import PlanOptions
from engine.planning.progress_picture import progress_svg
from tests.cli.conftest import node
from tests.full_size import size
from tests.planning.first_come import first_come
from tests.planning.queues import Queue, queue_from_seed


def request(name: str, gpus: int, per_node: int, **other: Any) -> dict[str, Any]:
    return {
        "request_id": name,
        "gpu_count": gpus,
        "gpus_per_node": per_node,
        "duration_s": 3_600,
        "max_price_micro_usd_per_gpu_hour": 2_000_000,
    } | other


QUEUE = Queue(
    fleet=[
        node("whole", gpu_free=8),
        node("broken", gpu_free=5, site_id="iad-2"),
        node("small", gpu_count=4, gpu_free=4, site_id="iad-3"),
        node("away", state="DOWN", gpu_free=8),
        node("other", gpu_model="A100", gpu_free=6, site_id="iad-4"),
    ],
    rtt=[],
    requests=[
        request("fits", 2, 1, sites=["iad-1"]),
        request("eight", 8, 8, gpu_models=["H100"]),
        request("any", 16, 8),
        request("four", 8, 4, gpu_models=["A100"]),
        request("runs", 3, 3, gpu_models=["A100"]),
    ],
    placements=[],
)


@pytest.fixture
def files(tmp_path: Path) -> PlanFiles:
    plan_files(QUEUE.files(tmp_path / "in"), tmp_path / "out", PlanOptions(), solve=first_come)
    return read_plan_files(tmp_path / "out")


def test_utilisation_counts_ready_nodes_before_and_after(files: PlanFiles) -> None:
    rows = show.utilisation(show.nodes_after(files)).rows()
    assert rows == [("H100", 20, 3, 5), ("A100", 8, 2, 5)]


def test_stranded_are_free_gpus_of_nodes_that_are_too_broken(files: PlanFiles) -> None:
    """The small node was never built for 8, and the whole one is now broken by `fits`."""
    rows = {row[:2]: row[2:] for row in show.fragmentation(files, show.nodes_after(files)).rows()}
    assert rows == {("H100", 8): (24, 15, 11), ("A100", 8): (16, 3, 3), ("A100", 4): (8, 3, 3)}


def test_refusals_fold_by_reason_and_by_scarce_set(files: PlanFiles) -> None:
    assert show.refusals_by_reason(files).rows() == [("SCARCE_CAPACITY", 3, 32, 64_000_000)]
    assert show.scarce_sets(files).select("requests", "gpus").row(0) == (3, 32)


def test_prices_are_those_of_nodes_with_something_to_give(files: PlanFiles) -> None:
    rows = show.prices_by_market(files, show.nodes_after(files)).rows()
    assert rows == [
        ("H100", "us-east", "SECURE", 17, 0.0, 0.0, 0.0),
        ("A100", "us-east", "SECURE", 6, 0.0, 0.0, 0.0),
    ]


@pytest.mark.parametrize("seed", range(size(10, 20)))
def test_used_and_free_add_up_on_every_node(seed: int, tmp_path: Path) -> None:
    queue = queue_from_seed(seed, running=4)
    plan_files(queue.files(tmp_path / "in"), tmp_path / "out", PlanOptions(), solve=first_come)
    nodes = show.nodes_after(read_plan_files(tmp_path / "out"))
    assert (nodes["used_after"] + nodes["free_after"] == nodes["gpu_count"]).all()
    assert (nodes["free_after"] >= 0).all() and (nodes["used_after"] >= 0).all()


def test_a_card_with_parts_is_one_gpu(tmp_path: Path) -> None:
    """Law: however many parts stand on a card, it is used once; it is capacity only if all of them may move."""
    parts = {"gpu_model": "H100", "cpu_milli": None, "memory_mib": None}
    queue = Queue(
        fleet=[node("shared", gpu_free=6)],
        rtt=[],
        requests=[request(f"part-{number}", 1, 1, gpu_milli=250) | parts for number in range(7)],
        placements=[
            {
                "request_id": f"part-{number}",
                "node_id": "shared",
                "gpus": 1,
                "movable": number != 3,
                "card": number // 3,
            }
            for number in range(4)
        ],
    )
    plan_files(queue.files(tmp_path / "in"), tmp_path / "out", PlanOptions())
    nodes = show.nodes_after(read_plan_files(tmp_path / "out"))
    assert nodes.select("used_before", "used_after", "capacity").rows() == [(2, 2, 7)]


def step(elapsed_s: float, welfare: int | None, bound: int | None) -> dict[str, Any]:
    return {
        "phase": "x",
        "elapsed_s": elapsed_s,
        "welfare_micro_usd_per_hour": welfare,
        "bound_micro_usd_per_hour": bound,
    }


@pytest.mark.parametrize(
    "history",
    [
        [],
        [step(0.1, None, None)],
        [step(0.1, None, 5), step(0.2, 3, 5), step(0.4, 5, 5)],
        [step(0.1, -(10**14), 10**14)],
        [step(0.0, 0, 0)],
    ],
)
def test_the_picture_is_an_svg_with_labelled_axes(history: list[dict[str, Any]]) -> None:
    picture = ElementTree.fromstring(progress_svg(history, 0.5, None))
    texts = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "seconds since the start" in texts and any("per hour" in text for text in texts)
    lines = list(picture.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == sum(
        any(each[name] is not None for each in history)
        for name in ("welfare_micro_usd_per_hour", "bound_micro_usd_per_hour")
    )
    for line in lines:
        places = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert all(0 <= x <= 720 and 0 <= y <= 400 for x, y in places)
