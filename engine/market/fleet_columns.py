"""Columns of a fleet: codes of names, what all nodes of a site share, and small views that are read at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.market.use import Use
from engine.market.vocabulary import Vocabulary

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sites:
    """What all nodes of a site share, each of shape (sites,)."""

    names: Vocabulary
    region: Int
    country: Int
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]


class Glance(NamedTuple):
    """Columns of some nodes, each of shape (nodes,), in the order of `solvers.node_rows`.

    `unused`: neither leased here nor used outside.

    `own`: what of CPU, memory and cards is to count as unused, beside what the inventory says.
    """

    rank: Int
    model: Int
    site: Int
    ask_micro_usd: Int
    market: Int
    state: Int
    unused: Int
    posted_micro_usd: Int
    own: Use | None = None

    def with_own(self, use: Use) -> Glance:
        """The same as if a placement on just these nodes were not there."""
        unused = self.unused if use.gpu_milli else self.unused + use.gpus
        return self._replace(unused=unused, own=use)


class Freed:
    """Nodes that got free GPUs since somebody last looked: what orders may be waiting for. No fact of the market.

    `revision` grows with every change of what is free.
    """

    def __init__(self, nodes: int) -> None:
        self._is_freed = np.zeros(nodes, dtype=bool)
        self.any, self.revision = False, 0

    def note(self, nodes: Int) -> None:
        """Some nodes may have more free GPUs than before."""
        self._is_freed[nodes] = True
        self.any = True

    @contextmanager
    def unnoted(self) -> Iterator[None]:
        """Around changes of what is free that are all taken back: nobody wakes for them."""
        kept = self._is_freed.copy(), self.any, self.revision
        try:
            yield
        finally:
            self._is_freed, self.any, self.revision = kept

    def forget(self) -> None:
        """Forget all of them: nobody waits."""
        if self.any:
            self._is_freed[:] = False
            self.any = False

    def take(self, most: int) -> Int:
        """Up to `most` of them, which are forgotten here."""
        nodes = np.flatnonzero(self._is_freed)[:most]
        self._is_freed[nodes] = False
        self.any = nodes.size == most
        return nodes


def grades(column: pl.Series, ladder: Any) -> Int:
    """Ranks of a column of names of grades."""
    names = list(ladder.__members__)
    return Vocabulary(names).encode(column)


def masks(column: pl.Series, names: Vocabulary) -> Int:
    """Bit masks of a column of name lists. Distinct lists are few, so each is encoded once."""
    joined = column.list.join("\x00").fill_null("")
    mask_of = {
        text: sum(1 << names.code[name] for name in set(text.split("\x00")) if name)
        for text in joined.unique().to_list()
    }
    return joined.replace_strict(mask_of, return_dtype=pl.Int64).to_numpy().astype(np.int64)


def merge_pairs(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Measured pairs with the new ones in place of old ones; of a pair named twice at once the larger value."""
    if new.is_empty():
        return old
    ordered = [
        frame.with_columns(
            pl.min_horizontal("site_a", "site_b").alias("site_a"),
            pl.max_horizontal("site_a", "site_b").alias("site_b"),
        )
        for frame in (old, new)
    ]
    latest = ordered[1].group_by("site_a", "site_b").agg(pl.col("rtt_ms").max())
    kept = ordered[0].join(latest, on=["site_a", "site_b"], how="anti")
    return pl.concat([kept, latest]).sort("site_a", "site_b")
