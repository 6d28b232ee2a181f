"""Law: the chunks of a table, put together, are the table; and each is far enough below 64 KiB."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walras.v1 import fleet_service_pb2

from engine.cli.fleet_chunks import fleet_chunks, reject_commas, rows_of, rtt_chunks
from engine.domain.errors import InvalidInput
from engine.domain.limits import (
    MAX_CERTIFICATIONS,
    MAX_CPU_MILLI,
    MAX_GPUS_PER_NODE,
    MAX_MEMORY_MIB,
    MAX_PRICE_MICRO_USD_PER_GPU_HOUR,
    MAX_TEXT_LENGTH,
)
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from tests.cli.conftest import fleet_frame, node
from tests.full_size import size

SAFE_BYTES = 60 * 1024
KEY = "\N{GRINNING FACE}" * 128

words = st.text(st.characters(codec="utf-8", exclude_characters=",", exclude_categories=("C", "Z")), min_size=1)
texts = words.map(lambda text: text[:MAX_TEXT_LENGTH]) | st.just("\N{GRINNING FACE}" * MAX_TEXT_LENGTH)
nodes = st.fixed_dictionaries(
    {
        "node_id": texts,
        "supplier_id": texts,
        "gpu_model": texts,
        "gpu_count": st.integers(1, MAX_GPUS_PER_NODE),
        "gpu_free": st.integers(0, MAX_GPUS_PER_NODE),
        "site_id": texts,
        "region": texts,
        "latitude": st.floats(-90, 90),
        "longitude": st.floats(-180, 180),
        "certifications": st.none() | st.lists(texts, max_size=MAX_CERTIFICATIONS, unique=True),
        "reliability": st.floats(0, 1),
        "ask_micro_usd_per_gpu_hour": st.integers(1, MAX_PRICE_MICRO_USD_PER_GPU_HOUR),
        "fabric_id": st.none() | texts,
        "cpu_milli": st.none() | st.integers(0, MAX_CPU_MILLI),
        "memory_mib": st.none() | st.integers(0, MAX_MEMORY_MIB),
    }
)
pairs = st.fixed_dictionaries({"site_a": texts, "site_b": texts, "rtt_ms": st.floats(0, 60_000)})
unhurried = settings(deadline=None, max_examples=size(15, 40), suppress_health_check=[HealthCheck.too_slow])


def rows_in(chunk: fleet_service_pb2.LoadFleetRequest) -> list[dict[str, Any]]:
    columns = {name: list(getattr(chunk.nodes, name)) for name in FLEET_SCHEMA}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def as_sent(row: dict[str, Any]) -> dict[str, Any]:
    limits = {name: -1 if row[name] is None else row[name] for name in ("cpu_milli", "memory_mib")}
    names = {"certifications": ",".join(row["certifications"] or []), "fabric_id": row["fabric_id"] or ""}
    return row | names | limits


@unhurried
@given(st.lists(nodes, max_size=30), st.integers(1, 40))
def test_the_chunks_of_a_fleet_are_the_fleet(drawn: list[dict[str, Any]], copies: int) -> None:
    rows = [node("n") | row for row in drawn] * copies
    chunks = list(fleet_chunks(fleet_frame(rows)))
    for chunk in chunks:
        chunk.idempotency_key = KEY
        assert chunk.ByteSize() < SAFE_BYTES
    assert [row for chunk in chunks for row in rows_in(chunk)] == [as_sent(row) for row in rows]
    assert sum(map(rows_of, chunks)) == len(rows)


@unhurried
@given(st.lists(pairs, max_size=30), st.integers(1, 100))
def test_the_chunks_of_round_trips_are_the_round_trips(drawn: list[dict[str, Any]], copies: int) -> None:
    rows = drawn * copies
    chunks = list(rtt_chunks(pl.DataFrame(rows, schema=RTT_SCHEMA)))
    assert all(0 < chunk.ByteSize() < SAFE_BYTES and rows_of(chunk) for chunk in chunks)
    sent = [
        dict(zip(RTT_SCHEMA, row, strict=True))
        for chunk in chunks
        for row in zip(chunk.rtts.site_a, chunk.rtts.site_b, chunk.rtts.rtt_ms, strict=True)
    ]
    assert sent == rows


def test_the_longest_row_that_is_allowed_fits() -> None:
    text = "\N{GRINNING FACE}" * MAX_TEXT_LENGTH
    longest = node(text, supplier_id=text, gpu_model=text, site_id=text, region=text, fabric_id=text)
    longest["certifications"] = [text[:-2] + f"{number:02}" for number in range(MAX_CERTIFICATIONS)]
    chunks = list(fleet_chunks(fleet_frame([longest] * 3)))
    assert [rows_of(chunk) for chunk in chunks] == [1, 1, 1]
    assert all(chunk.ByteSize() < SAFE_BYTES for chunk in chunks)


def test_chunks_are_well_filled() -> None:
    sizes = [chunk.ByteSize() for chunk in fleet_chunks(fleet_frame([node(f"n{i:06}") for i in range(3_000)]))]
    assert min(sizes[:-1]) > 32 * 1024


def test_an_empty_fleet_is_one_empty_chunk() -> None:
    assert [rows_of(chunk) for chunk in fleet_chunks(fleet_frame([]))] == [0]
    assert list(rtt_chunks(pl.DataFrame(schema=RTT_SCHEMA))) == []


def test_a_comma_in_a_certification_is_refused_not_split() -> None:
    frame = fleet_frame(
        [node("a"), node("b", certifications=["SOC2", "ISO,27001"]), node("c", certifications=None)]
    )
    with pytest.raises(InvalidInput, match=r"fleet\.parquet row 1 column certifications"):
        reject_commas(frame, "fleet.parquet")
