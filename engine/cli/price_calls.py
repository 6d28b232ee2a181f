"""The calls behind `walras price`."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from walras.v1 import oracle_service_pb2, oracle_service_pb2_grpc

from engine.cli.amounts import usd_per_gpu_hour
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import plain
from engine.cli.screen import answers, print_json
from engine.cli.text_table import text_table

PAGE_SIZE = 1_000


def list_prices(connection: Connection, gpu_model: str | None, as_json: bool) -> None:
    """Show the posted prices of all markets, or of one model's."""
    with connection.channel() as channel:
        prices = list(all_prices(channel, connection, gpu_model))
    if as_json:
        print_json({"prices": [plain(price) for price in prices]})
        return
    rows = [
        (
            price.gpu_model,
            price.region,
            price.security_tier,
            price.source,
            usd_per_gpu_hour(price.posted_price_micro_usd_per_gpu_hour),
            f"{price.gpus_free:,}",
        )
        for price in prices
    ]
    headings = (("model", "region", "tier", "source"), ("per GPU-hour", "GPUs free"))
    answers().print(text_table(f"{len(prices):,} markets", *headings, rows))


def all_prices(
    channel: grpc.Channel, connection: Connection, gpu_model: str | None
) -> Iterator[oracle_service_pb2.MarketPrice]:
    """Prices of all pages, by model, region and tier."""
    service = oracle_service_pb2_grpc.OracleServiceStub(channel)
    token = ""
    while True:
        call = oracle_service_pb2.ListPricesRequest(
            page_size=PAGE_SIZE, page_token=token, gpu_model=gpu_model or ""
        )
        page = service.ListPrices(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
        yield from page.prices
        if not (token := page.next_page_token):
            return
