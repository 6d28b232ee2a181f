"""`walras price --watch`: every new snapshot as it is published."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing

import grpc
from walras.v1 import oracle_service_pb2 as pb
from walras.v1 import oracle_service_pb2_grpc

from engine.cli.amounts import moment
from engine.cli.connection import Connection
from engine.cli.json_reply import plain
from engine.cli.price_calls import HOUR_US, Histories, market_of, sparkline_histories
from engine.cli.price_options import MarketChoice
from engine.cli.price_view import price_table
from engine.cli.process import is_heard
from engine.cli.screen import answers, print_json

RESUME_S = 1.0
"""Pause before a stream that the engine ended is opened again."""


def watch_prices(connection: Connection, choice: MarketChoice, back_hours: float, as_json: bool) -> None:
    """Show snapshot after snapshot until interrupted: one JSON document a line, or a table kept up to date."""
    with connection.channel() as channel, closing(snapshots(channel, connection, choice)) as stream:
        if as_json:
            for snapshot in stream:
                print_json({name: value for name, value in plain(snapshot).items() if name != "last_part"})
        else:
            _follow(channel, connection, stream, back_hours)


def snapshots(
    channel: grpc.Channel, connection: Connection, choice: MarketChoice
) -> Generator[pb.WatchPricesResponse, None, None]:
    """Whole snapshots, the one of now first. A stream that the engine ends is resumed after the last whole one.

    Ends when nobody reads them any more.
    """
    service = oracle_service_pb2_grpc.OracleServiceStub(channel)
    call = pb.WatchPricesRequest(
        gpu_model=choice.gpu_model, region=choice.region, security_tier=choice.security_tier
    )
    while True:
        parts: list[pb.WatchPricesResponse] = []
        for part in service.WatchPrices(call, metadata=connection.metadata):
            parts.append(part)
            if part.last_part:
                yield whole(parts)
                if not is_heard():
                    return
                call.after_epoch, parts = part.epoch, []
        time.sleep(RESUME_S)


def whole(parts: list[pb.WatchPricesResponse]) -> pb.WatchPricesResponse:
    """The snapshot that parts make, in their order."""
    snapshot = pb.WatchPricesResponse()
    snapshot.CopyFrom(parts[-1])
    del snapshot.prices[:]
    for part in parts:
        snapshot.prices.extend(part.prices)
    return snapshot


def _follow(
    channel: grpc.Channel, connection: Connection, stream: Iterator[pb.WatchPricesResponse], back_hours: float
) -> None:
    from rich.live import Live

    console, past = answers(), None
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        for snapshot in stream:
            if past is None:
                past = sparkline_histories(channel, connection, list(snapshot.prices), back_hours)
            remember(past, snapshot, back_hours)
            title = f"prices of epoch {snapshot.epoch}, {moment(snapshot.taken_time_us)}, per GPU-hour"
            table = price_table(snapshot.prices, past, console, title)
            if console.is_terminal:
                live.update(table, refresh=True)
            else:
                console.print(table)


def remember(past: Histories, snapshot: pb.WatchPricesResponse, back_hours: float) -> None:
    """Add a snapshot to the histories, which forget what is older than `back_hours`."""
    oldest_us = snapshot.taken_time_us - back_hours * HOUR_US
    for price in snapshot.prices:
        points = past.get(market_of(price))
        if points is not None and (not points or points[-1].epoch < snapshot.epoch):
            points.append(
                pb.PricePoint(
                    epoch=snapshot.epoch,
                    taken_time_us=snapshot.taken_time_us,
                    posted_price_micro_usd_per_gpu_hour=price.posted_price_micro_usd_per_gpu_hour,
                )
            )
            points[:] = [point for point in points if point.taken_time_us >= oldest_us]
