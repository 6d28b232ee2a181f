"""Cutting tables into messages of a bulk load, each safely below the 64 KiB that the engine takes.

The serialised size of a row is bounded from its columns: texts by their bytes and the longest possible header,
numbers by their widest encoding. Chunks are cut where the sum of the bounds would pass the budget, so no message
is ever measured and rebuilt. The longest row that the border check lets through (63 certifications of 128
characters of 4 bytes, and nine more such texts) is bounded by 38 KB: every row fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from walras.v1 import fleet_service_pb2

from engine.domain.errors import InvalidInput, Violation

CHUNK_BYTES = 56 * 1024
"""Budget for rows; the rest of a message (headers of packed columns, an idempotency key) takes under 1 KiB."""
TEXT_HEADER_BYTES = 5
"""Two bytes of field number, three of length."""
NUMBER_BYTES = 10
"""The widest varint; a double has 8."""
NO_LIMIT = -1
"""CPU or memory of a node that is not limited, on the wire."""
MAX_LISTED = 20


def fleet_chunks(frame: pl.DataFrame) -> Iterator[fleet_service_pb2.LoadFleetRequest]:
    """Chunks of a checked frame of FLEET_SCHEMA, in row order; one empty chunk of an empty frame."""
    wire = frame.with_columns(
        pl.col("certifications").list.join(",").fill_null(""),
        pl.col("fabric_id").fill_null(""),
        *(pl.col(name).fill_null(NO_LIMIT) for name in ("cpu_milli", "memory_mib")),
    )
    for part in _parts(wire):
        yield fleet_service_pb2.LoadFleetRequest(nodes=fleet_service_pb2.NodeColumns(**_columns(part)))


def rtt_chunks(frame: pl.DataFrame) -> Iterator[fleet_service_pb2.LoadFleetRequest]:
    """Chunks of a checked frame of RTT_SCHEMA, in row order; none of an empty frame."""
    for part in _parts(frame):
        if part.height:
            yield fleet_service_pb2.LoadFleetRequest(rtts=fleet_service_pb2.RttColumns(**_columns(part)))


def rows_of(chunk: fleet_service_pb2.LoadFleetRequest) -> int:
    """Rows that a chunk carries."""
    return len(chunk.nodes.node_id) + len(chunk.rtts.rtt_ms)


def reject_commas(frame: pl.DataFrame, table: str) -> None:
    """InvalidInput if the name of a certification holds a comma, which separates names on the wire."""
    with_comma = pl.col("certifications").list.eval(pl.element().str.contains(",", literal=True)).list.any()
    rows = frame.select(with_comma.fill_null(False).arg_true()).to_series().head(MAX_LISTED).to_list()
    if rows:
        where = f"{table} row {{}} column certifications"
        raise InvalidInput([Violation(where.format(row), "holds a name with a comma") for row in rows])


def _columns(part: pl.DataFrame) -> dict[str, Any]:
    return {column.name: column.to_list() for column in part.iter_columns()}


def _parts(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    ends = np.cumsum(_row_bounds(frame))
    start, sent = 0, 0
    while True:
        stop = max(start + 1, int(np.searchsorted(ends, sent + CHUNK_BYTES, side="right")))
        yield frame.slice(start, stop - start)
        if stop >= frame.height:
            return
        start, sent = stop, int(ends[stop - 1])


def _row_bounds(frame: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Most bytes that each row can take in a message."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    fixed = TEXT_HEADER_BYTES * len(texts) + NUMBER_BYTES * (frame.width - len(texts))
    bound = pl.sum_horizontal(pl.col(texts).str.len_bytes().cast(pl.Int64)) + fixed
    return frame.select(bound.alias("bytes"))["bytes"].to_numpy()
