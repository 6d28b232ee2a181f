"""The calls behind `walras price`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from walras.v1 import oracle_service_pb2 as pb
from walras.v1 import oracle_service_pb2_grpc

from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import plain
from engine.cli.price_options import MarketChoice
from engine.cli.price_view import history_tables, price_table
from engine.cli.screen import answers, print_json
from engine.domain.errors import InvalidInput, Violation

PAGE_SIZE = 1_000
HOUR_US = 3_600_000_000
MOST_HISTORIES = 50
"""A history is a call per market: more markets than this are shown without a trend, and none are listed."""

Histories = dict[tuple[str, str, str], list[pb.PricePoint]]


def list_prices(
    connection: Connection, choice: MarketChoice, back_hours: float, with_history: bool, as_json: bool
) -> None:
    """Show prices of now with a sparkline, or their history."""
    with connection.channel() as channel:
        prices = list(all_prices(channel, connection, choice))
        if with_history:
            _require_few(prices)
            past = histories(channel, connection, prices, back_hours)
        else:
            past = {} if as_json else sparkline_histories(channel, connection, prices, back_hours)
    if as_json:
        print_json({"prices": [plain(price) | _past_json(price, past, with_history) for price in prices]})
    elif with_history:
        for table in history_tables(prices, past, answers()):
            answers().print(table)
    else:
        answers().print(price_table(prices, past, answers()))


def all_prices(channel: grpc.Channel, connection: Connection, choice: MarketChoice) -> Iterator[pb.MarketPrice]:
    """Prices of all pages, by model, region and tier."""
    service = oracle_service_pb2_grpc.OracleServiceStub(channel)
    token = ""
    while True:
        call = pb.ListPricesRequest(page_size=PAGE_SIZE, page_token=token, gpu_model=choice.gpu_model)
        page = service.ListPrices(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
        yield from filter(choice.has, page.prices)
        if not (token := page.next_page_token):
            return


def sparkline_histories(
    channel: grpc.Channel, connection: Connection, prices: list[pb.MarketPrice], back_hours: float
) -> Histories:
    """Histories of the markets, or none if there are too many to ask for."""
    return histories(channel, connection, prices, back_hours) if len(prices) <= MOST_HISTORIES else {}


def histories(
    channel: grpc.Channel, connection: Connection, prices: list[pb.MarketPrice], back_hours: float
) -> Histories:
    """Past prices by market, counted back from the price of now; of markets that the oracle has priced."""
    return {
        market_of(price): list(_past(channel, connection, price, back_hours)) for price in prices if price.epoch
    }


def _require_few(prices: list[pb.MarketPrice]) -> None:
    if len(prices) > MOST_HISTORIES:
        told = f"of {len(prices):,} markets, at most {MOST_HISTORIES} may be asked for: choose a model or region"
        raise InvalidInput([Violation("--history", told)])


def market_of(price: pb.MarketPrice) -> tuple[str, str, str]:
    """Model, region and tier."""
    return price.gpu_model, price.region, price.security_tier


def _past(
    channel: grpc.Channel, connection: Connection, price: pb.MarketPrice, back_hours: float
) -> Iterator[pb.PricePoint]:
    service = oracle_service_pb2_grpc.OracleServiceStub(channel)
    call = pb.GetPriceHistoryRequest(
        gpu_model=price.gpu_model,
        region=price.region,
        security_tier=price.security_tier,
        start_time_us=max(price.taken_time_us - round(back_hours * HOUR_US), 0),
        page_size=PAGE_SIZE,
    )
    while True:
        page = service.GetPriceHistory(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
        yield from page.points
        if not page.next_page_token:
            return
        call.page_token = page.next_page_token


def _past_json(price: pb.MarketPrice, past: Histories, with_history: bool) -> dict[str, Any]:
    return {"history": [plain(point) for point in past.get(market_of(price), ())]} if with_history else {}
