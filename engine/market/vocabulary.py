"""Names as codes: what a column of names is to arrays."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Int = NDArray[np.int64]


class Vocabulary:
    """Sorted names and their codes."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.code = {name: index for index, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, column: pl.Series) -> Int:
        """Codes of a column of these names; -1 for null."""
        return column.to_frame("name").select(self.codes_of("name"))["name"].to_numpy().astype(np.int64)

    def codes_of(self, column: str) -> pl.Expr:
        """The same as an expression: a frame can be asked for several columns at once, one a core."""
        if not self.names:
            return pl.col(column).is_null().cast(pl.Int64) * 0 - 1
        return pl.col(column).cast(pl.Enum(self.names)).to_physical().cast(pl.Int64).fill_null(-1)

    def mask(self, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """Which codes are named; names unknown here are nobody."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[[self.code[name] for name in names if name in self.code]] = True
        return chosen


def vocabulary(column: pl.Series) -> Vocabulary:
    """The vocabulary of all values of a column."""
    return Vocabulary(column.drop_nulls().unique().sort().to_list())
