"""The laws of price lists: any bytes give prices or a list of what is wrong; no bad number ever passes."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.gpu_models import MODEL_INDEX
from engine.datasets.price_sources import ListedPrice, PriceListKind, read_price_list
from engine.datasets.reference_prices import REFERENCE_PRICE_MICRO_USD
from engine.domain.errors import InvalidInput
from engine.domain.limits import MAX_PRICE_MICRO_USD_PER_GPU_HOUR
from engine.oracle.parameters import OracleParameters
from engine.oracle.references import ReferenceQuote, reference_of

DAY_US = 86_400_000_000
OBSERVED = 20_400 * DAY_US
HEADER = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region")
OFFER = {
    "provider_id": "p",
    "gpu_model": "H100 SXM",
    "vram_gb": 80,
    "is_spot": False,
    "price_usd_hour": 2.5,
    "collected_at": "2026-05-24",
}
BAD_PRICES = ("0", "-1", "nan", "inf", "-inf", "1e400", "1e30", "1_0", "0x10", "free", "1e-12")
GOOD = ("m", "H100", "8", "20", "8", "r")


def read(kind: PriceListKind, content: bytes) -> list[ListedPrice]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "prices.list"
        path.write_bytes(content)
        return read_price_list(path, kind, "them", OBSERVED)


def catalogue(*rows: Sequence[str], header: Sequence[str] = HEADER) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def offers(*changes: dict[str, Any]) -> bytes:
    return json.dumps([OFFER | change for change in changes]).encode()


def places(refused: pytest.ExceptionInfo[InvalidInput]) -> list[str]:
    return [violation.field.partition("/")[2] for violation in refused.value.violations]


def check(prices: list[ListedPrice]) -> None:
    assert prices == sorted(prices) and len({price[:2] for price in prices}) == len(prices)
    for price in prices:
        assert price.gpu_model in MODEL_INDEX
        assert 1 <= price.price_micro_usd_per_gpu_hour <= MAX_PRICE_MICRO_USD_PER_GPU_HOUR


def answers(kind: PriceListKind, content: bytes) -> None:
    """Prices that keep the rules, or violations that name the file."""
    try:
        check(read(kind, content))
    except InvalidInput as refused:
        assert refused.violations
        assert all("prices.list" in violation.field for violation in refused.violations)


@settings(max_examples=60)
@given(st.sampled_from(PriceListKind), st.binary(max_size=300))
def test_no_bytes_crash_a_reader(kind: PriceListKind, content: bytes) -> None:
    """Law: whatever the bytes, prices or InvalidInput."""
    answers(kind, content)


@pytest.mark.parametrize("kind", PriceListKind)
@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b'{"a": 1}', b"[1]", b"PAR1" + b"\0" * 90 + b"PAR1", b'"']
)
def test_no_nasty_bytes_crash_a_reader(kind: PriceListKind, content: bytes) -> None:
    """Law: the same for what fuzzing rarely finds: deep nesting, other shapes, a broken footer, an open quote."""
    with pytest.raises(InvalidInput):
        read(kind, content)


CELL = st.sampled_from(("", "H100", "A100", "8", "2.5", *BAD_PRICES)) | st.text(max_size=6)


@settings(max_examples=60)
@given(st.lists(st.lists(CELL, min_size=0, max_size=8), max_size=6))
def test_no_cells_crash_the_catalogue(rows: list[list[str]]) -> None:
    """Law: the same where the header is right and the cells are anything."""
    answers(PriceListKind.CATALOGUE, catalogue(*rows))


VALUE = (
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=1)
)


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(sorted(OFFER)), VALUE, max_size=3), min_size=1, max_size=4))
def test_no_values_crash_the_offers(changes: list[dict[str, Any]]) -> None:
    """Law: the same for JSON values of any type in the right places."""
    answers(PriceListKind.OFFERS, offers(*changes))


@pytest.mark.parametrize("bad", BAD_PRICES)
def test_a_bad_price_is_named_by_file_row_and_column(bad: str) -> None:
    """Law: zero, negative, NaN, infinite and unreadable prices never pass, and are found."""
    row = list(GOOD)
    row[HEADER.index("Price")] = bad
    with pytest.raises(InvalidInput) as refused:
        read(PriceListKind.CATALOGUE, catalogue(GOOD, row))
    assert places(refused) == ["prices.list row 1 column Price"]


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, True, "many", [1], 10**400])
def test_a_bad_json_price_is_named(bad: Any) -> None:
    """Law: the same in JSON, which can write NaN and true."""
    with pytest.raises(InvalidInput) as refused:
        read(PriceListKind.OFFERS, offers({}, {"price_usd_hour": bad}))
    assert places(refused) == ["prices.list row 1 column price_usd_hour"]


def test_every_bad_cell_of_a_file_is_listed() -> None:
    """Law: not the first violation only, and nothing of the file is believed."""
    with pytest.raises(InvalidInput) as refused:
        read(
            PriceListKind.OFFERS,
            offers({"price_usd_hour": 0, "is_spot": "no"}, {}, {"collected_at": "soon"}, {"gpu_model": 7}),
        )
    assert [place.removeprefix("prices.list ") for place in places(refused)] == [
        "row 0 column is_spot",
        "row 0 column price_usd_hour",
        "row 2 column collected_at",
        "row 3 column gpu_model",
    ]


def test_a_missing_column_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(PriceListKind.CATALOGUE, catalogue(GOOD[:3], header=HEADER[:3]))
    assert places(refused) == ["prices.list column Price", "prices.list column Region"]
    with pytest.raises(InvalidInput, match="no such file"):
        read_price_list(tmp_path / "none.csv", PriceListKind.CATALOGUE, "them", OBSERVED)


def test_a_list_without_times_needs_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="observed"):
        read_price_list(tmp_path / "prices.csv", PriceListKind.CATALOGUE, "them")


def test_what_is_no_offer_is_passed_over() -> None:
    """An instance without GPUs, one only sold as spot, and a model nobody here knows."""
    rows = [("m", "", "", "0.1", "", "r"), ("m", "H100", "1", "", "1", "r"), ("m", "tpu-v9", "1", "9", "", "r")]
    assert read(PriceListKind.CATALOGUE, catalogue(*rows)) == []


def test_a_catalogue_price_is_per_gpu_and_of_the_cheapest_instance_of_a_region() -> None:
    rows = [
        ("small", "H100", "1", "4", "", "east"),
        ("large", "H100", "8", "16", "", "east"),
        ("large", "H100", "8", "24", "", "west"),
    ]
    assert read(PriceListKind.CATALOGUE, catalogue(*rows)) == [ListedPrice("them", "H100", 2_500_000.0, OBSERVED)]


def test_only_firm_offers_of_the_newest_day_count() -> None:
    """An old row neither moves the price nor makes it look old; a spot price is no on-demand price."""
    content = offers(
        {"price_usd_hour": 9.0, "collected_at": "2026-05-23"},
        {"price_usd_hour": 2.0},
        {"price_usd_hour": 3.0, "provider_id": "q", "collected_at": "2026-05-24T00:00:00+00:00"},
        {"price_usd_hour": 0.5, "is_spot": True},
    )
    [price] = read(PriceListKind.OFFERS, content)
    assert price == ListedPrice("them", "H100", 2_500_000.0, 20_597 * DAY_US)


def test_providers_can_be_sources(tmp_path: Path) -> None:
    path = tmp_path / "offers.json"
    path.write_bytes(offers({}, {"price_usd_hour": 3.0, "provider_id": "q"}))
    found = read_price_list(path, PriceListKind.OFFERS, "them", by_provider=True)
    assert [(price.source, price.price_micro_usd_per_gpu_hour) for price in found] == [
        ("them/p", 2_500_000.0),
        ("them/q", 3_000_000.0),
    ]
    with pytest.raises(InvalidInput, match="one source"):
        read_price_list(path, PriceListKind.CATALOGUE, "them", OBSERVED, by_provider=True)


def test_snapshots_give_their_newest() -> None:
    content = io.BytesIO()
    pl.DataFrame(
        {
            "timestamp": ["2025-10-19T00:00:00+00:00", "2025-10-20T00:00:00+00:00", "2025-10-20T00:00:00+00:00"],
            "gpu_type": ["A100_80GB", "A100_80GB", "A100_80GB"],
            "socket_type": ["PCIe", "PCIe", "SXM4"],
            "price_stats.median": [9.0, 1.5, 1.75],
        }
    ).write_parquet(content)
    [price] = read(PriceListKind.SNAPSHOTS, content.getvalue())
    assert price[1:3] == ("A100-80GB", 1_625_000.0)


def test_a_listed_price_is_a_reference_quote() -> None:
    """Law: the two agree field by field, as `ReferenceQuote(*listed)` relies on."""
    assert ListedPrice._fields == tuple(field.name for field in fields(ReferenceQuote))


FILES = {
    PriceListKind.OFFERS: ("gpu_offers_2026_05/offerings.json", None),
    PriceListKind.CATALOGUE: ("skypilot_gcp_2022/gcp.csv", OBSERVED),
    PriceListKind.CLOUD_TABLE: ("cloud_gpus_fsdl_2025/cloud-gpus.csv", OBSERVED),
    PriceListKind.SNAPSHOTS: ("prime_gpu_market_2025/price_and_availability.parquet", None),
}


def test_the_public_lists_make_a_healthy_reference(data_dir: Path) -> None:
    """Three of the four public lists name the H100; their reference is the middle one of the three."""
    listed = [
        ReferenceQuote(*price)
        for kind, (file, time_us) in FILES.items()
        for price in read_price_list(data_dir / file, kind, kind.value, time_us or OBSERVED)
    ]
    assert {quote.source for quote in listed} == set(FILES)
    quotes = [quote for quote in listed if quote.gpu_model == "H100"]
    oldest_us, now_us = (pick(quote.observed_at_us for quote in quotes) for pick in (min, max))
    parameters = OracleParameters(reference_max_age_us=now_us - oldest_us)
    found = reference_of(quotes, now_us, parameters)
    assert found.is_healthy and len(found.sources) == 3
    assert found.value_micro_usd_per_gpu_hour == sorted(q.price_micro_usd_per_gpu_hour for q in quotes)[1]
    assert not reference_of(quotes, now_us + 1, parameters).is_healthy


def test_the_offers_give_the_reference_prices_of_the_built_in_fleet(data_dir: Path) -> None:
    """The figures in `gpu_models` were computed from the same file, where two offers or more are firm."""
    file, _ = FILES[PriceListKind.OFFERS]
    prices = read_price_list(data_dir / file, PriceListKind.OFFERS, "offers")
    by_model = {price.gpu_model: price.price_micro_usd_per_gpu_hour for price in prices}
    for model in ("H100", "H200", "B200", "A100-80GB", "L40S", "RTX4090", "T4"):
        assert by_model[model] == pytest.approx(REFERENCE_PRICE_MICRO_USD[model])
