"""`walras price` against a server that answers from a script: what is shown, followed, resumed and refused."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from walras.v1 import oracle_service_pb2 as pb
from walras.v1 import oracle_service_pb2_grpc

from engine.cli import price_watch
from engine.cli.connection import Connection
from engine.cli.price_options import MarketChoice
from engine.cli.price_spark import BLOCKS, PLAIN, WIDTH, levels_of, sparkline
from engine.cli.price_view import bracket, health, price_table, set_by
from engine.cli.price_watch import remember, snapshots, whole
from tests.cli.conftest import Walras, engine_with

EPOCH_US = 300_000_000
NOW_EPOCH = 1_000
MARKETS = [
    ("H100", "eu", "SECURE"),
    ("H100", "us", "SECURE"),
    ("H100", "us", "CONFIDENTIAL"),
    ("L4", "us", "SECURE"),
]


def market_price(market: tuple[str, str, str], epoch: int, **other: Any) -> pb.MarketPrice:
    model, region, tier = market
    shown = {
        "posted_price_micro_usd_per_gpu_hour": 2_000_000 + 1_000 * epoch,
        "clearing_price_micro_usd_per_gpu_hour": 2_110_000,
        "floor_micro_usd_per_gpu_hour": 792_000,
        "cap_micro_usd_per_gpu_hour": 4_640_000,
        "bracket_low_micro_usd_per_gpu_hour": 2_110_000,
        "bracket_high_micro_usd_per_gpu_hour": 2_130_000,
        "binding_reason": "DEMAND",
        "limited_by": "RATE",
        "source": "ORACLE",
        "epoch": epoch,
        "taken_time_us": epoch * EPOCH_US,
        "gpus_free": 4_321,
        "health": pb.PriceHealth(is_healthy=True),
    }
    return pb.MarketPrice(gpu_model=model, region=region, security_tier=tier, **shown | other)


class Scripted(oracle_service_pb2_grpc.OracleServiceServicer):
    """Four markets, prices that rise by epoch, streams that end after one snapshot in two parts."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ListPrices(self, request: pb.ListPricesRequest, context: Any) -> pb.ListPricesResponse:  # noqa: N802
        first = int(request.page_token or 0)
        prices = [market_price(each, NOW_EPOCH) for each in MARKETS if request.gpu_model in ("", each[0])]
        more = str(first + 1) if first + 1 < len(prices) else ""
        return pb.ListPricesResponse(prices=prices[first : first + 1], next_page_token=more)

    def GetPriceHistory(self, request: pb.GetPriceHistoryRequest, context: Any) -> pb.GetPriceHistoryResponse:  # noqa: N802
        self.asked.append(request)
        first = max(int(request.page_token or 0), -(-request.start_time_us // EPOCH_US))
        last = min(first + 200, NOW_EPOCH + 1)
        points = [
            pb.PricePoint(epoch=epoch, taken_time_us=epoch * EPOCH_US, posted_price_micro_usd_per_gpu_hour=epoch)
            for epoch in range(first, last)
        ]
        return pb.GetPriceHistoryResponse(
            points=points, next_page_token=str(last) if last <= NOW_EPOCH else "", retention_s=3_600
        )

    def WatchPrices(self, request: pb.WatchPricesRequest, context: Any) -> Iterator[pb.WatchPricesResponse]:  # noqa: N802
        epoch = request.after_epoch + 1 if request.HasField("after_epoch") else NOW_EPOCH
        if epoch >= NOW_EPOCH + 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the script is over")
        prices = [market_price(each, epoch) for each in MARKETS if request.gpu_model in ("", each[0])]
        named = {"epoch": epoch, "taken_time_us": epoch * EPOCH_US}
        yield pb.WatchPricesResponse(**named, prices=prices[:1])
        yield pb.WatchPricesResponse(**named, prices=prices[1:], last_part=True)
        yield pb.WatchPricesResponse(epoch=epoch + 1, prices=prices[:1])

    def EstimateCost(self, request: pb.EstimateCostRequest, context: Any) -> pb.CostEstimate:  # noqa: N802
        rate = request.gpu_count * (3_000_000 if request.region == "eu" else 2_000_000)
        estimate = pb.CostEstimate(average_micro_usd_per_gpu_hour=rate // request.gpu_count)
        estimate.price.total_micro_usd = rate * request.duration_s // 3_600
        estimate.price.lines.add(
            kind="GPU_HOURS", gpus=request.gpu_count, to_s=request.duration_s, set_by="POSTED"
        )
        return estimate

    def GetSupplyCurve(self, request: pb.GetSupplyCurveRequest, context: Any) -> pb.SupplyCurve:  # noqa: N802
        curve = pb.SupplyCurve(window_s=14_400, price=market_price(MARKETS[0], NOW_EPOCH))
        for price, hours in ((1_000_000, 8), (2_000_000, 24)):
            curve.supply.add(price_micro_usd_per_gpu_hour=price, gpu_seconds=3_600 * hours)
        return curve


@pytest.fixture
def service() -> Scripted:
    return Scripted()


@pytest.fixture
def oracle(service: Scripted) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), options=(("grpc.so_reuseport", 0),))
    oracle_service_pb2_grpc.add_OracleServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_watch, "RESUME_S", 0.0)


@given(st.lists(st.integers(0, 10**11), max_size=60), st.integers(1, 30))
def test_a_sparkline_keeps_order_and_ends_with_the_newest(values: list[int], width: int) -> None:
    """Law: no wider than asked; a higher value is never a lower block; the last character is of the last value."""
    line = sparkline(values, BLOCKS, width)
    assert len(line) == min(width, len(values))
    if len(values) > width or not values:
        return
    for one, block in zip(values, line, strict=True):
        for other, beside in zip(values, line, strict=True):
            assert one > other or block <= beside


def test_a_long_history_shows_its_newest_price() -> None:
    assert sparkline([0] * 99 + [7])[-1] == BLOCKS[-1]
    assert sparkline([5, 5]) == BLOCKS[0] * 2 and sparkline([]) == ""


@pytest.mark.parametrize(("encoding", "levels"), [("utf-8", BLOCKS), ("ascii", PLAIN), ("latin-1", PLAIN)])
def test_a_terminal_without_blocks_gets_plain_characters(encoding: str, levels: str) -> None:
    """Law: what is printed can be encoded."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert levels_of(Console(file=file)) == levels
    assert len(PLAIN) == len(BLOCKS) == len(set(PLAIN)) and PLAIN.isascii()


def test_prices_show_every_figure_and_a_trend(walras: Walras, oracle: str) -> None:
    """Law: posted, clearing, bracket, floor, cap, reason and health of each chosen market."""
    run = walras("price", "--gpu-model", "H100", "--region", "us", "--target", oracle)
    assert run.code == 0, run.err
    for text in (
        "2 markets",
        "$3.0000",
        "$2.1100",
        "2.11..2.13",
        "$0.7920",
        "$4.6400",
        "DEMAND, RATE",
        "ok",
        "4,321",
    ):
        assert text in run.out
    assert sparkline(range(NOW_EPOCH - 288, NOW_EPOCH + 1)) in run.out
    assert "eu" not in run.out and "L4" not in run.out


def test_a_piped_ascii_output_does_not_fail(walras: Walras, oracle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii", write_through=True))
    assert walras("price", "--target", oracle).code == 0
    assert PLAIN in out.getvalue().decode("ascii") or "_" in out.getvalue().decode("ascii")


def test_json_has_every_field_and_history_only_if_asked(walras: Walras, oracle: str, service: Scripted) -> None:
    run = walras("price", "--json", "--target", oracle)
    prices = json.loads(run.out)["prices"]
    assert len(prices) == 4 and "history" not in prices[0] and not service.asked
    assert prices[0]["clearing_price_micro_usd_per_gpu_hour"] == 2_110_000
    run = walras("price", "--json", "--history", "--region", "eu", "--back-hours", 25, "--target", oracle)
    [price] = json.loads(run.out)["prices"]
    assert [point["epoch"] for point in price["history"]] == list(range(NOW_EPOCH - 300, NOW_EPOCH + 1))
    assert len(service.asked) == 2, "one call a page"


def test_history_is_a_table_a_market(walras: Walras, oracle: str) -> None:
    run = walras("price", "--history", "--gpu-model", "H100", "--region", "us", "--target", oracle)
    assert run.code == 0 and run.out.count("289 snapshots") == 2 and "and 270 more" in run.out


def test_many_markets_are_shown_without_a_call_each(
    walras: Walras, oracle: str, service: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.cli.price_calls.MOST_HISTORIES", 3)
    assert walras("price", "--target", oracle).code == 0 and not service.asked
    run = walras("price", "--history", "--target", oracle)
    assert run.code == 2 and "choose" in run.err and not service.asked


def test_watch_follows_and_resumes_after_the_last_whole_snapshot(walras: Walras, oracle: str) -> None:
    """Law: every epoch once, with all its parts; a part of the next is dropped when the stream ends."""
    run = walras("price", "--watch", "--json", "--gpu-model", "H100", "--target", oracle)
    assert run.code == 3 and "the script is over" in run.err
    seen = [json.loads(line) for line in run.out.splitlines()]
    assert [snapshot["epoch"] for snapshot in seen] == [NOW_EPOCH, NOW_EPOCH + 1, NOW_EPOCH + 2]
    assert all(len(snapshot["prices"]) == 3 and "last_part" not in snapshot for snapshot in seen)


def test_watch_shows_a_table_a_snapshot(walras: Walras, oracle: str) -> None:
    run = walras("price", "--watch", "--region", "eu", "--target", oracle)
    assert [f"epoch {NOW_EPOCH + step}" in run.out for step in range(4)] == [True, True, True, False]


def test_a_snapshot_is_the_sum_of_its_parts(oracle: str) -> None:
    with Connection(target=oracle).channel() as channel:
        stream = snapshots(channel, Connection(target=oracle), MarketChoice())
        first = next(stream)
        stream.close()
    assert [price.gpu_model for price in first.prices] == [market[0] for market in MARKETS]
    assert whole([first]) == first


@pytest.mark.parametrize("width", [40, 50, 56, 80, 90, 110, 120, 130, 140])
def test_every_width_leaves_texts_their_room(width: int) -> None:
    """Law: a column that is shown can be read, and a number is never cut."""
    console = Console(file=io.StringIO(), width=width)
    console.print(price_table([market_price(MARKETS[2], NOW_EPOCH)], {}, console))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(part in said for part in ("market", "set by", "H100 us", "DEMAND", "$3.0000")), said
    assert "…" not in said and ("health" in said) == (width >= 50)


def test_what_is_remembered_is_new_and_not_too_old() -> None:
    """Law: a snapshot is remembered once; nothing older than asked stays."""
    market = MARKETS[0]
    past = {market: [pb.PricePoint(epoch=1, taken_time_us=EPOCH_US)]}
    late = pb.WatchPricesResponse(epoch=14, taken_time_us=14 * EPOCH_US, prices=[market_price(market, 14)])
    remember(past, late, back_hours=1.0)
    remember(past, late, back_hours=1.0)
    assert [point.epoch for point in past[market]] == [14]


def test_an_estimate_names_the_cheapest_market_first(walras: Walras, oracle: str) -> None:
    ask = ("price", "estimate", "H100", "--gpus", 64, "--hours", 72, "--target", oracle)
    run = walras(*ask)
    assert run.code == 0, run.err
    assert "64 GPUs for 72 h" in run.out and run.out.index("us") < run.out.index("eu")
    found = json.loads(walras(*ask, "--json").out)["estimates"]
    assert [each["region"] for each in found] == ["us", "us", "eu"]
    assert found[0]["price"]["total_micro_usd"] == 64 * 72 * 2_000_000
    one = walras(*ask, "--region", "eu", "--security-tier", "SECURE")
    assert one.code == 0 and "GPU_HOURS" in one.out


def test_estimates_that_cannot_be_are_refused(
    walras: Walras, oracle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert walras("price", "estimate", "ABACUS", "--target", oracle).code == 1
    assert walras("price", "estimate", "H100", "--hours", "nan", "--target", oracle).code == 2
    monkeypatch.setattr("engine.cli.price_estimate.MOST_MARKETS", 2)
    run = walras("price", "estimate", "H100", "--target", oracle)
    assert run.code == 2 and "choose a region" in run.err


def test_a_curve_shows_steps_with_their_running_sum(walras: Walras, oracle: str) -> None:
    ask = ("price", "curve", "H100", "--region", "eu", "--security-tier", "SECURE", "--target", oracle)
    run = walras(*ask)
    assert run.code == 0 and "$2.0000" in run.out and "32.0" in run.out and "of 4 h" in run.out
    assert json.loads(walras(*ask, "--json").out)["supply"][1]["gpu_seconds"] == 86_400
    missing = walras("price", "curve", "H100", "--target", oracle)
    assert missing.code == 2 and "--region" in missing.err and "--security-tier" in missing.err


def test_what_is_hidden_or_unknown_is_a_dash() -> None:
    """Before the first epoch a market has a source and no health; few tenants hide the bracket."""
    fresh = pb.MarketPrice(source="REFERENCE")
    assert (set_by(fresh), health(fresh), bracket(fresh)) == ("REFERENCE", "-", "-")
    assert bracket(pb.MarketPrice(bracket_low_micro_usd_per_gpu_hour=1_250_000)) == "1.25 up"
    frozen = pb.MarketPrice(
        health=pb.PriceHealth(failure_reasons=["BELOW_QUORUM", "STALE"], alarms=["SOURCE_DEVIATES"])
    )
    assert health(frozen) == "BELOW_QUORUM STALE !SOURCE_DEVIATES"
    assert len(sparkline(range(100))) == WIDTH


def test_the_real_engine_answers(walras: Walras, tmp_path: Path, fleet_file: Path) -> None:
    """Law: floor <= posted <= cap, history ends with the price of now, lines of an estimate sum to its total."""
    with engine_with("[oracle]\nepoch_us = 86_400_000_000\n", tmp_path) as target:
        assert walras("fleet", "load", fleet_file, "--target", target).code == 0
        choice = MarketChoice("H100", "us-east", "SECURE")
        connection = Connection(target=target)
        with connection.channel() as channel, closing(snapshots(channel, connection, choice)) as stream:
            [watched] = next(snapshot.prices for snapshot in stream if snapshot.epoch and snapshot.prices)
        chosen = ("--region", choice.region, "--security-tier", choice.security_tier, "--target", target, "--json")
        [price] = json.loads(walras("price", "--history", "--gpu-model", choice.gpu_model, *chosen).out)["prices"]
        posted, floor, cap = (price[f"{name}_micro_usd_per_gpu_hour"] for name in ("posted_price", "floor", "cap"))
        assert floor <= posted <= cap and price["epoch"] >= watched.epoch
        assert price["history"][-1]["posted_price_micro_usd_per_gpu_hour"] == posted
        asked = walras("price", "estimate", choice.gpu_model, "--gpus", 64, "--hours", 72, *chosen)
        [estimate] = json.loads(asked.out)["estimates"]
        total = estimate["price"]["total_micro_usd"]
        assert sum(line["amount_micro_usd"] for line in estimate["price"]["lines"]) == total > 0
        assert estimate["average_micro_usd_per_gpu_hour"] == pytest.approx(total / (64 * 72), abs=1)
