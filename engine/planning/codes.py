"""Names as codes, many rows at a time: what the encoding of a fleet and of its requests share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.market.fleet_columns import Vocabulary

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


def known_codes(column: pl.Series, known: Vocabulary) -> Int:
    """Codes of a column of names; -1 for null and for names that are not known."""
    if not len(known):
        return np.full(column.len(), -1, dtype=np.int64)
    codes = column.cast(pl.Enum(known.names), strict=False).to_physical()
    return codes.cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)


def named(lists: pl.Series, known: Vocabulary) -> Flags:
    """Which names each list of names holds, shape (lists, known names); unknown names are nobody."""
    found = np.zeros((lists.len(), len(known)), dtype=bool)
    row = np.repeat(np.arange(lists.len()), lists.list.len().fill_null(0).to_numpy())
    code = known_codes(lists.drop_nulls().explode(empty_as_null=False), known)
    found[row[code >= 0], code[code >= 0]] = True
    return found


def is_given(lists: pl.Series) -> Flags:
    """Which lists constrain: neither null nor empty."""
    return (lists.list.len().fill_null(0) > 0).to_numpy()


def distinct(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, Int]:
    """The distinct combinations of some columns in order of appearance, and each row's place among them."""
    if frame.is_empty():
        return frame.select(columns), np.empty(0, dtype=np.int64)
    row = pl.int_range(pl.len()).alias("row of the frame")
    groups = frame.select(*columns, row).group_by(columns, maintain_order=True).agg("row of the frame")
    rows = groups["row of the frame"]
    place = np.empty(frame.height, dtype=np.int64)
    place[rows.explode().to_numpy()] = np.repeat(np.arange(rows.len()), rows.list.len().to_numpy())
    return groups.select(columns), place


def distinct_sets(sets: Flags) -> tuple[Flags, Int]:
    """The distinct rows of a (rows, members) table in order of appearance, and each row's place among them."""
    places: dict[bytes, int] = {}
    place = [places.setdefault(bits.tobytes(), len(places)) for bits in np.packbits(sets, axis=1)]
    inverse = np.array(place, dtype=np.int64)
    first = np.unique(inverse, return_index=True)[1]
    return sets[first], inverse
