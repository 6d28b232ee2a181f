"""Price lists of others as reference prices: a file is one source, or one per provider; a price per GPU model.

By default a list is one source however many providers it names: who writes the file can lie in all of its rows.
`by_provider` trusts the author and makes each provider a source. A source's price of a model is, among its rows of
the model's newest observation time, the median of on-demand prices per GPU-hour; in a catalogue, of the cheapest
instance of every region. It stands for tier VERIFIED (see `reference_prices`).

A row without GPUs, without an on-demand price, or of a model unknown to `gpu_models` is no offer and passed over.
Every other cell that cannot be used (zero, negative, NaN, infinite, no number, no time) makes the whole file
InvalidInput, with every bad cell listed: a list that is wrong in one place is not half believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import NamedTuple

import polars as pl

from engine.datasets.gpu_names import canonical_name
from engine.datasets.price_source_cells import Row, RowFaults, is_empty
from engine.datasets.price_source_rows import ReadRows, csv_rows, json_rows, parquet_rows, shown
from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_PRICE_MICRO_USD_PER_GPU_HOUR

_MEMORY = re.compile(r"[-_ (]+(\d{1,4}) ?GB\)?$", re.IGNORECASE)


class PriceListKind(StrEnum):
    """The formats that are known."""

    OFFERS = "offers"
    """JSON of tardellirs/gpu-pricing: offers of many providers, with the day they were collected."""
    CATALOGUE = "catalogue"
    """SkyPilot's CSV: a row per instance type and zone; an instance's price covers all its GPUs."""
    CLOUD_TABLE = "cloud-table"
    """CSV of Full Stack Deep Learning: instance types of many clouds."""
    SNAPSHOTS = "snapshots"
    """Parquet of Prime Intellect's market: the median of many offers, snapshot by snapshot."""


class ListedPrice(NamedTuple):
    """What a source says a GPU-hour costs, micro-USD, positive and finite.

    `ReferenceQuote(*listed)` makes it what the oracle judges (`engine.oracle.references`, a layer above this one).
    """

    source: str
    gpu_model: str
    price_micro_usd_per_gpu_hour: float
    observed_at_us: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns of a format. `count`: the price is for so many GPUs. `place`: the cheapest of each counts, if given.
    `form`: text added to the model's name.
    """

    read_rows: ReadRows
    model: str
    price: str
    memory: str | None = None
    form: str | None = None
    count: str | None = None
    spot: str | None = None
    place: str | None = None
    time: str | None = None
    provider: str | None = None

    @property
    def columns(self) -> list[str]:
        """Those that must be there."""
        named = [getattr(self, each.name) for each in fields(self) if each.name != "read_rows"]
        return [column for column in named if column is not None]


_SNAPSHOTS = {name: pl.String() for name in ("gpu_type", "socket_type", "timestamp")}
_LAYOUTS = {
    PriceListKind.OFFERS: _Layout(
        json_rows,
        "gpu_model",
        "price_usd_hour",
        memory="vram_gb",
        spot="is_spot",
        time="collected_at",
        provider="provider_id",
    ),
    PriceListKind.CATALOGUE: _Layout(
        csv_rows, "AcceleratorName", "Price", count="AcceleratorCount", place="Region"
    ),
    PriceListKind.CLOUD_TABLE: _Layout(csv_rows, "GPU Type", "On-demand", count="GPUs", provider="Cloud"),
    PriceListKind.SNAPSHOTS: _Layout(
        parquet_rows({**_SNAPSHOTS, "price_stats.median": pl.Float64()}),
        "gpu_type",
        "price_stats.median",
        form="socket_type",
        time="timestamp",
    ),
}


class _Offer(NamedTuple):
    model: str
    provider: str
    place: str
    micro_usd_per_gpu_hour: float
    observed_at_us: int


def read_price_list(
    path: Path,
    kind: PriceListKind,
    source: str,
    observed_at_us: int | None = None,
    by_provider: bool = False,
) -> list[ListedPrice]:
    """The prices of one file, by source and model. `observed_at_us`: for formats that do not say when it was.

    With `by_provider` sources are `source/provider`. InvalidInput lists every bad cell by file, row and column.
    """
    layout = _LAYOUTS[kind]
    if layout.time is None and observed_at_us is None:
        raise InvalidInput([Violation(shown(path), "does not say when it was observed: that must be given")])
    if layout.provider is None and by_provider:
        raise InvalidInput([Violation(shown(path), f"names no providers: a {kind} list is one source")])
    rows = layout.read_rows(path)
    _require_columns(rows, layout, path)
    faults = RowFaults(shown(path))
    offers = [_offer(row, index, layout, observed_at_us, faults) for index, row in enumerate(rows)]
    if faults.found:
        raise InvalidInput(faults.found)
    found = [offer for offer in offers if offer is not None]
    return _prices(source, found, by_provider)


def _require_columns(rows: Sequence[Row], layout: _Layout, path: Path) -> None:
    if not rows:
        raise InvalidInput([Violation(shown(path), "holds no rows")])
    known = set().union(*rows)
    absent = [column for column in layout.columns if column not in known]
    if absent:
        raise InvalidInput([Violation(f"{shown(path)} column {column}", "is missing") for column in absent])


def _offer(row: Row, index: int, layout: _Layout, observed_at_us: int | None, faults: RowFaults) -> _Offer | None:
    """The offer of one row, or None: no offer, or noted among the faults."""
    known_faults = len(faults.found)
    model = _model(row, index, layout, faults)
    is_spot = layout.spot is not None and faults.flag(index, layout.spot, row.get(layout.spot))
    place = faults.text(index, layout.place, row.get(layout.place)) if layout.place else str(index)
    provider = faults.text(index, layout.provider, row.get(layout.provider)) if layout.provider else ""
    time_us = observed_at_us
    if layout.time is not None:
        time_us = faults.moment_us(index, layout.time, row.get(layout.time))
    price = _per_gpu(row, index, layout, faults)
    if len(faults.found) > known_faults or model is None or is_spot or price is None:
        return None
    assert place is not None and provider is not None and time_us is not None
    return _Offer(model, provider, place, price, time_us)


def _model(row: Row, index: int, layout: _Layout, faults: RowFaults) -> str | None:
    text = faults.text(index, layout.model, row.get(layout.model))
    form = faults.text(index, layout.form, row.get(layout.form)) if layout.form else ""
    memory_gb = None
    if layout.memory is not None and not is_empty(row.get(layout.memory)):
        memory_gb = faults.positive(index, layout.memory, row.get(layout.memory))
    if not text:
        return None
    said = _MEMORY.search(text)
    if said is not None:
        text, memory_gb = text[: said.start()], float(said[1])
    return canonical_name(f"{text} {form or ''}", memory_gb)


def _per_gpu(row: Row, index: int, layout: _Layout, faults: RowFaults) -> float | None:
    """Micro-USD per GPU-hour; None where nothing is offered on demand, or the cells are at fault."""
    given = row.get(layout.price)
    if is_empty(given) or is_empty(row.get(layout.model)):
        return None
    usd = faults.positive(index, layout.price, given)
    count = faults.positive(index, layout.count, row.get(layout.count)) if layout.count else 1.0
    if usd is None or count is None:
        return None
    price = usd * 1e6 / count
    if not 1 <= price <= MAX_PRICE_MICRO_USD_PER_GPU_HOUR:
        faults.note(index, layout.price, given, "is not a price per GPU-hour between 0.000001 and 100000 USD")
    return price


def _prices(source: str, offers: Iterable[_Offer], by_provider: bool) -> list[ListedPrice]:
    """One price a source and model; see the top of this file."""
    grouped: dict[tuple[str, str], list[_Offer]] = {}
    for offer in offers:
        named = f"{source}/{offer.provider}" if by_provider else source
        grouped.setdefault((named, offer.model), []).append(offer)
    return [ListedPrice(*key, *_price(grouped[key])) for key in sorted(grouped)]


def _price(offers: list[_Offer]) -> tuple[float, int]:
    """(micro-USD per GPU-hour, observed at)."""
    newest_us = max(offer.observed_at_us for offer in offers)
    cheapest: dict[str, float] = {}
    for offer in offers:
        if offer.observed_at_us == newest_us:
            known = cheapest.get(offer.place, offer.micro_usd_per_gpu_hour)
            cheapest[offer.place] = min(known, offer.micro_usd_per_gpu_hour)
    return median(cheapest.values()), newest_us
