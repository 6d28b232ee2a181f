"""What people read is what the integers say."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli.amounts import (
    average_price_micro_usd,
    duration,
    exact_usd,
    milliseconds,
    moment,
    percent,
    usd,
    usd_per_gpu_hour,
)


@pytest.mark.parametrize(
    ("micro_usd", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (120_000, "$0.12"),
        (123_456, "$0.123456"),
        (999_999, "$0.999999"),
        (1_000_000, "$1.00"),
        (2_310_000, "$2.31"),
        (633_600_000_000, "$633,600.00"),
        (-1_500_000, "-$1.50"),
    ],
)
def test_dollars(micro_usd: int, shown: str) -> None:
    assert usd(micro_usd) == shown


@given(st.integers(-(10**18), 10**18))
def test_dollars_are_off_by_half_a_cent_at_most(micro_usd: int) -> None:
    read = Decimal(usd(micro_usd).replace("$", "").replace(",", ""))
    assert abs(read * 1_000_000 - micro_usd) <= (5_000 if abs(micro_usd) >= 1_000_000 else 0)


@given(st.integers(0, 10**11), st.integers(1, 10**7))
def test_the_average_of_one_price_is_that_price(price: int, gpus: int) -> None:
    assert average_price_micro_usd(price * gpus, gpus) == price


def test_other_texts() -> None:
    assert usd_per_gpu_hour(2_640_000) == "$2.6400"
    assert average_price_micro_usd(5, 0) == 0
    assert (duration(3_600), duration(3_661), duration(59)) == ("1 h", "1 h 1 min 1 s", "59 s")
    assert (milliseconds(12_345), milliseconds(42)) == ("12.3 ms", "0.042 ms")
    assert (percent(1, 4), percent(0, 0)) == ("25.0 %", "-")
    assert (moment(0), moment(1_700_000_000_000_000)) == ("-", "2023-11-14 22:13:20 UTC")


@given(st.integers(-(10**18), 10**18))
def test_books_show_every_micro_dollar(micro_usd: int) -> None:
    """Law: what is shown of the books is the amount, not near it."""
    shown = exact_usd(micro_usd)
    assert Decimal(shown.replace("$", "").replace(",", "")).scaleb(6) == micro_usd
    assert len(shown.rpartition(".")[2]) >= 2
