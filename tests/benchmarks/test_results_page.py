"""What is written for readers: answers, growth, pictures, and what a change did."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.charts import chart
from benchmarks.compare import changes, told
from benchmarks.growth import exponents
from benchmarks.registry import FLEETS, SMALL
from benchmarks.results_page import page, write_page

RESULTS = {
    **{f"deploy.8@{fleet}.decision_us_p50": 30.0 for fleet in FLEETS},
    **{f"deploy.8@{fleet}.call_ms_p50": fleet**0.5 for fleet in FLEETS},
    **{f"server.peak_rss_mb@{fleet}": float(fleet) for fleet in FLEETS},
    "deploy.decision_exponent_fleet": 0.4,
    "overload.goodput_share": 0.9,
    "plan.real.load_0.9.welfare_micro_usd_per_hour": 102.0,
    "plan.real.load_0.9.first_come.welfare_micro_usd_per_hour": 100.0,
    "plan.real.load_0.9.highs.welfare_micro_usd_per_hour": 0.0,
    "plan.real.load_0.9.highs.wall_s": 75.0,
    "plan.real.load_0.9.pop_4.welfare_micro_usd_per_hour": 204.0,
}
RUNS = {"plan": "a machine, commit 1", "deploy": "a machine, commit 2"}


def test_kinds_that_were_measured_apart_keep_their_commits() -> None:
    text = page(RESULTS, SMALL, RUNS)
    assert "- `plan`: a machine, commit 1\n- `deploy`: a machine, commit 2" in text


def test_answers_say_what_was_asked_and_whether_it_is_met() -> None:
    text = page(RESULTS, SMALL, RUNS)
    assert "| Growth of the decision with the fleet | 0.400 | ≤ 0.3 | **no** |" in text
    assert "| Goodput at 10× the clients | 0.90 | ≥ 0.7 | yes |" in text


def test_peers_are_beaten_or_ahead_or_without_a_plan() -> None:
    text = page(RESULTS, SMALL, RUNS)
    assert "| real.load_0.9 | first_come | +2.00% |" in text
    assert "| real.load_0.9 | pop_4 | -50.00% **behind** |" in text
    assert "| real.load_0.9 | highs | it found no plan |" in text


def test_exponents_are_those_of_the_figures() -> None:
    found = exponents(RESULTS)
    assert found["growth.decision.8_against_fleet"] == pytest.approx(0.0, abs=1e-9)
    assert found["growth.whole_call.8_against_fleet"] == pytest.approx(0.5)
    assert found["growth.peak_rss_mb_against_fleet"] == pytest.approx(1.0)


def test_the_page_and_its_pictures_are_written(tmp_path: Path) -> None:
    write_page(RESULTS, SMALL, RUNS, tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    pictures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert {"decision.svg", "memory.svg"} <= set(pictures)
    assert all(f"figures/{name}" in text for name in pictures)
    for name in pictures:
        ElementTree.parse(tmp_path / "figures" / name)


def test_a_picture_has_every_line_and_its_caption() -> None:
    text = chart("Title", "GPUs", "µs", {"a < b": {10.0: 1.0, 1e6: 30.0}, "c": {10.0: 2.0}}, "commit 1")
    root = ElementTree.fromstring(text)
    words = [element.text for element in root if element.tag.endswith("text")]
    assert {"Title", "a < b", "c", "commit 1", "1M"} <= set(words)


def test_a_change_counts_beyond_ten_per_cent_and_the_spread() -> None:
    base = [{"a.call_ms_p50": value, "b.ready_s": value, "c.other": 1.0} for value in (10.0, 10.2, 9.9)]
    head = [{"a.call_ms_p50": 1.5 * turn["a.call_ms_p50"], "b.ready_s": 10.5, "c.other": 9.0} for turn in base]
    found = changes(base, head)
    assert [each.key for each in found] == ["a.call_ms_p50", "b.ready_s"]
    assert [each.counts for each in found] == [True, False]
    assert told(found).startswith("a.call_ms_p50: 10 -> 15 (+50.0%")
    noisy = changes([{"a.ready_s": 10.0}, {"a.ready_s": 16.0}], [{"a.ready_s": 15.0}, {"a.ready_s": 15.0}])
    assert not noisy[0].counts
