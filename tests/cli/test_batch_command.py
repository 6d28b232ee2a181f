"""`walras deploy --requests` against a real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.cli.batch_deploy import ITEMS_MAX, MESSAGE_BYTES_MAX, messages_of
from engine.domain.tables import REQUESTS_SCHEMA
from tests.cli.conftest import Walras


def queue(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of requests with a duration and a highest price each."""
    whole = {"tenant_id": "someone", "duration_s": 3_600, "max_price_micro_usd_per_gpu_hour": 9_000_000}
    pl.DataFrame([whole | row for row in rows]).write_parquet(path)
    return path


@pytest.fixture
def here(walras: Walras, target: str, fleet_file: Path) -> tuple[object, ...]:
    """Options of a tenant of the engine with forty nodes of eight H100."""
    assert walras("fleet", "load", fleet_file, "--target", target, "--json").code == 0
    return "--target", target, "--tenant", "batcher"


def test_a_file_is_deployed(walras: Walras, here: tuple[object, ...], tmp_path: Path) -> None:
    """Law: every request of a file gets its own lease or its own refusal; again under its key it gets the same."""
    rows = [{"request_id": f"r{number}", "gpu_count": 1} for number in range(3)]
    path = queue(tmp_path / "requests.parquet", [*rows, {"request_id": "huge", "gpu_count": 10**6}])
    command = ("deploy", "--requests", path, "--idempotency-key", "batch-1", *here)
    first = walras(*command, "--json")
    told = json.loads(first.out)
    assert first.code == 1, first.err
    assert [lease["request_id"] for lease in told["leases"]] == ["r0", "r1", "r2"]
    assert [refusal["request_id"] for refusal in told["refusals"]] == ["huge"]
    assert told["refusals"][0]["reason"] == "NO_CAPACITY"
    for lease in told["leases"]:
        shown = json.loads(walras("lease", "get", lease["lease_id"], *here, "--json").out)
        assert {name: shown[name] for name in lease} == lease
    again = json.loads(walras(*command, "--json").out)
    assert again["leases"] == told["leases"]
    shown = walras(*command)
    assert "NO_CAPACITY" in shown.out and "huge" in shown.out
    for lease in told["leases"]:
        assert walras("lease", "release", lease["lease_id"], *here, "--json").code == 0


def test_bad_files_and_options_are_named(walras: Walras, here: tuple[object, ...], tmp_path: Path) -> None:
    """Law 9: exit 2, every violation with its file and column; nothing is deployed."""
    bad = queue(tmp_path / "bad.parquet", [{"request_id": "a", "gpu_count": 0, "min_reliability": 2.0}])
    answer = walras("deploy", "--requests", bad, *here)
    assert answer.code == 2 and "gpu_count" in answer.err and "min_reliability" in answer.err
    beside = walras("deploy", "--requests", bad, "--gpu-count", 8, *here)
    assert beside.code == 2 and "--requests" in beside.err


def test_messages_keep_their_limits() -> None:
    """Law: messages are small enough for the engine, hold every row once and in order, with distinct keys."""
    sites = [f"site-{number:03d}-{'x' * 90}" for number in range(100)]
    rows = [
        {"request_id": f"r{number}", "gpu_count": 1, "sites": sites[: number % 100]} for number in range(1_200)
    ]
    frame = pl.DataFrame(
        [{"duration_s": 60, "max_price_micro_usd_per_gpu_hour": 1, **row} for row in rows], schema=REQUESTS_SCHEMA
    )
    messages = list(messages_of(frame, "run"))
    assert [name for message in messages for name in message.request_ids] == [row["request_id"] for row in rows]
    assert all(len(message.wire.items) <= ITEMS_MAX for message in messages)
    assert all(message.wire.ByteSize() <= MESSAGE_BYTES_MAX for message in messages)
    assert len({item.idempotency_key for message in messages for item in message.wire.items}) == len(rows)
