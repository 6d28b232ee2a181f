"""`walras price curve`: supply and demand of one market, step by step."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from walras.v1 import oracle_service_pb2 as pb
from walras.v1 import oracle_service_pb2_grpc

from engine.cli.amounts import duration, usd_per_gpu_hour
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import plain
from engine.cli.price_options import MarketChoice
from engine.cli.price_view import price_table
from engine.cli.screen import answers, print_json
from engine.cli.text_table import Row, shortened, text_table
from engine.domain.errors import InvalidInput, Violation

SECONDS_PER_HOUR = 3_600


def show_curve(connection: Connection, choice: MarketChoice, as_json: bool) -> None:
    """Show the market's prices, asks rising and bids falling. InvalidInput unless one market is named."""
    named = (("--region", choice.region), ("--security-tier", choice.security_tier))
    missing = [Violation(option, "must be given: this shows one market") for option, value in named if not value]
    if missing:
        raise InvalidInput(missing)
    call = pb.GetSupplyCurveRequest(
        gpu_model=choice.gpu_model, region=choice.region, security_tier=choice.security_tier
    )
    with connection.channel() as channel:
        service = oracle_service_pb2_grpc.OracleServiceStub(channel)
        curve = service.GetSupplyCurve(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    if as_json:
        print_json(plain(curve))
        return
    console, window = answers(), duration(curve.window_s)
    console.print(price_table([curve.price], {}, console))
    console.print(_steps(f"supply in a window of {window}, by ask", curve.supply))
    console.print(_steps(f"demand of {window}, by bid; each step by three tenants or more", curve.demand))


def _steps(title: str, steps: Iterable[pb.PriceStep]) -> Table:
    """GPU-hours of each step, and up to it."""
    rows: list[Row] = []
    total_s = 0
    for step in steps:
        total_s += step.gpu_seconds
        hours = (f"{seconds / SECONDS_PER_HOUR:,.1f}" for seconds in (step.gpu_seconds, total_s))
        rows.append((usd_per_gpu_hour(step.price_micro_usd_per_gpu_hour), *hours))
    return text_table(title, (), ("per GPU-hour", "GPU-hours", "up to here"), shortened(rows))
