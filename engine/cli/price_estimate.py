"""`walras price estimate`: what GPUs cost for some hours, market by market."""

from __future__ import annotations

import grpc
from walras.v1 import oracle_service_pb2 as pb
from walras.v1 import oracle_service_pb2_grpc

from engine.cli.amounts import duration
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import plain
from engine.cli.price_calls import all_prices, market_of
from engine.cli.price_options import MarketChoice
from engine.cli.price_view import estimate_table, line_table
from engine.cli.screen import answers, print_json
from engine.domain.errors import InvalidInput, NotFound, Violation

MOST_MARKETS = 100
SECONDS_PER_HOUR = 3_600
MarketNames = tuple[str, str, str]


def estimate_cost(
    connection: Connection,
    choice: MarketChoice,
    gpu_count: int,
    hours: float,
    hold_s: int | None,
    as_json: bool,
) -> None:
    """Ask for every chosen market; ties of the total by name. InvalidInput if the choice is too wide."""
    seconds = round(hours * SECONDS_PER_HOUR)
    wanted = pb.EstimateCostRequest(gpu_count=gpu_count, duration_s=seconds, hold_s=hold_s)
    with connection.channel() as channel:
        found = [
            (market, _estimate(channel, connection, market, wanted))
            for market in _markets(channel, connection, choice)
        ]
    found.sort(key=lambda each: (each[1].price.total_micro_usd, each[0]))
    _show(found, f"{gpu_count:,} GPUs for {duration(seconds)}", as_json)


def _markets(channel: grpc.Channel, connection: Connection, choice: MarketChoice) -> list[MarketNames]:
    if choice.region and choice.security_tier:
        return [(choice.gpu_model, choice.region, choice.security_tier)]
    markets = [market_of(price) for price in all_prices(channel, connection, choice)]
    if not markets:
        raise NotFound("there is no such market")
    if len(markets) > MOST_MARKETS:
        told = f"{len(markets):,} markets would be asked, at most {MOST_MARKETS} may: choose a region or a tier"
        raise InvalidInput([Violation("--region, --security-tier", told)])
    return markets


def _estimate(
    channel: grpc.Channel, connection: Connection, market: MarketNames, wanted: pb.EstimateCostRequest
) -> pb.CostEstimate:
    call = pb.EstimateCostRequest()
    call.CopyFrom(wanted)
    call.gpu_model, call.region, call.security_tier = market
    service = oracle_service_pb2_grpc.OracleServiceStub(channel)
    return service.EstimateCost(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)


def _show(found: list[tuple[MarketNames, pb.CostEstimate]], title: str, as_json: bool) -> None:
    if as_json:
        names = pb.EstimateCostRequest.DESCRIPTOR.fields[:3]
        markets = ({field.name: value for field, value in zip(names, market, strict=True)} for market, _ in found)
        print_json({"estimates": [market | plain(cost) for market, (_, cost) in zip(markets, found, strict=True)]})
        return
    answers().print(estimate_table(found, title))
    if len(found) == 1:
        answers().print(line_table(found[0][1].price))
