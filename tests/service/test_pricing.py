"""The parts of an epoch that are prepared, kept or done elsewhere, each against the plain way."""

from __future__ import annotations

import random
from collections import Counter
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import Unavailable
from engine.market.published import COLUMNS, POSTED, MarketName, PricePoint, packed
from engine.oracle.parameters import OracleParameters
from engine.service import fleet_supply, past_prices, pricing_process
from engine.service.fleet_supply import FleetSupply
from engine.service.market_view import ViewMaker, glimpse
from engine.service.past_prices import PastPrices
from engine.service.pricing import Seen, priced
from engine.service.pricing_process import PricingProcess
from tests.market.upkept import Upkept
from tests.service.loopback import node

PARAMETERS = OracleParameters()
NODES = st.lists(
    st.tuples(
        st.sampled_from(("H100", "A100")),
        st.sampled_from(("iad1", "fra1")),
        st.integers(1, 3),
        st.sampled_from(("zeta", "bolt", "acme")),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=12,
)


def fleet(rows: list[tuple[str, str, int, str, int]]) -> Upkept:
    place = Upkept()
    place.load(
        *(
            node(
                f"n{number}",
                gpu_model=model,
                site_id=site,
                supplier_id=supplier,
                ask_micro_usd_per_gpu_hour=ask,
                gpu_free=free,
            )
            for number, (model, site, ask, supplier, free) in enumerate(rows)
        )
    )
    return place


def check_supply(rows: list[tuple[str, str, int, str, int]]) -> None:
    """The rows of the supply against a count node by node."""
    place = fleet(rows)
    supply, inventory = FleetSupply(place.state.inventory), place.state.inventory
    markets, owners = sorted(supply.markets), sorted(inventory.suppliers.names)
    sellable = glimpse(place.state, place.clock_us, PARAMETERS.window_s).sellable
    listed = np.array([markets.index(each) for each in supply.markets])
    code = np.array([owners.index(each) for each in inventory.suppliers.names])
    found = supply.rows(sellable, listed, code)
    twin: Counter[tuple[int, int, int]] = Counter()
    for number, (_, _, ask, supplier, _) in enumerate(rows):
        at = inventory.number[f"n{number}"]
        if sellable[at]:
            market = markets.index(supply.markets[inventory.market[at]])
            twin[market, ask, owners.index(supplier)] += int(sellable[at])
    columns = found.market, found.ask_micro_usd_per_gpu_hour, found.owner, found.gpus
    seen = list(zip(*(column.tolist() for column in columns), strict=True))
    assert seen == [(*key, gpus) for key, gpus in sorted(twin.items())]


@settings(max_examples=40, deadline=None)
@given(NODES)
def test_law_nodes_sorted_once_give_the_supply_of_now(rows: list[tuple[str, str, int, str, int]]) -> None:
    """Law: a row for each market, ask and owner with anything to sell, ascending, with the GPUs of its nodes."""
    check_supply(rows)


def test_planted_owners_in_the_order_of_the_fleet_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: owners are ranked as the fleet lists them, not by name."""
    monkeypatch.setattr(fleet_supply, "_rank", lambda values: np.arange(len(values))[::-1])
    with pytest.raises(AssertionError):
        check_supply([("H100", "iad1", 1, supplier, 4) for supplier in ("acme", "bolt", "zeta")])


NAMES: list[MarketName] = [("H100", "us-east", "SECURE"), ("A100", "us-east", "SECURE")]
OTHERS: list[MarketName] = [("H100", "us-west", "SECURE")]


def points(prices: list[tuple[bool, int, int]]) -> list[PricePoint]:
    """Epochs of two lists of markets."""
    found = []
    for epoch, (same, *posted) in enumerate(prices):
        names = NAMES if same else OTHERS
        columns = np.ones((len(COLUMNS), len(names)), dtype=np.int64)
        columns[POSTED] = posted[: len(names)]
        found.append(PricePoint(epoch, epoch, f"prices-{epoch}", names, packed(columns)))
    return found


PRICES = st.lists(st.tuples(st.booleans(), st.integers(1, 10**6), st.integers(1, 10**6)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(PRICES)
def test_law_moves_are_those_of_epochs_with_the_same_markets(prices: list[tuple[bool, int, int]]) -> None:
    """Law: the sum of the squares over the last epochs that list these markets, whatever was seen before."""
    past, kept = points(prices), PastPrices()
    for end in range(len(past) + 1):
        seen = past[max(0, end - 4) : end]
        moves = kept.moves(NAMES, seen)
        same = [np.array(prices[point.epoch][1:], dtype=float) for point in seen if prices[point.epoch][0]]
        squares = sum(((np.log(b) - np.log(a)) ** 2 for a, b in pairwise(same)), start=np.zeros(2))
        assert moves.epochs == len(same)
        np.testing.assert_allclose(moves.squares, squares)
        assert not same or (moves.last == np.log(same[-1])).all()


def test_each_epoch_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: an epoch looks only at what is new."""
    unpacked, columns_of = [], past_prices.columns_of
    monkeypatch.setattr(past_prices, "columns_of", lambda *given: unpacked.append(1) or columns_of(*given))
    past, kept = points([(True, 1, 2), (True, 2, 3), (True, 3, 4)]), PastPrices()
    for end in range(len(past)):
        kept.moves(NAMES, past[: end + 1])
    assert len(unpacked) == 3


def seen_of(place: Upkept, previous: bytes = b"") -> Seen:
    seen = glimpse(place.state, place.clock_us, PARAMETERS.window_s)
    view, demand = ViewMaker(PARAMETERS).view(seen, None)
    moves = PastPrices().moves([], [])
    return Seen(previous, view, *demand, (), moves, place.clock_us, PARAMETERS)


@pytest.fixture(scope="module")
def market() -> Upkept:
    draw = random.Random(1)
    models, suppliers = ("H100", "A100"), ("acme", "bolt")
    return fleet(
        [(draw.choice(models), "iad1", draw.randint(1, 10**6), draw.choice(suppliers), 8) for _ in range(20)]
    )


def test_law_another_process_gives_the_same_event(market: Upkept) -> None:
    """Law 10: same input, same bytes, wherever; the same epoch again is none; a lost process is started anew."""
    process, first = PricingProcess(), priced(seen_of(market))
    assert first is not None
    try:
        assert process(seen_of(market)) == first
        assert process(seen_of(market, first.snapshot)) is None is priced(seen_of(market, first.snapshot))
        assert process._process is not None
        process._process.kill()
        process._process.wait()
        with pytest.raises(Unavailable):
            process(seen_of(market))
        assert process(seen_of(market)) == first
    finally:
        process.close()


def test_the_process_ends_with_its_input() -> None:
    """Law: an engine that is gone leaves no process behind; neither does half a message."""
    for rest in (b"", b"\0\0\0", b"\0\0\0\0\0\0\0\1"):
        replies = BytesIO()
        pricing_process.serve(BytesIO(rest), replies)
        assert replies.getvalue() == b""
