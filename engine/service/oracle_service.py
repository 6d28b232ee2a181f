"""OracleService: posted prices by market."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from walras.v1 import oracle_service_pb2 as pb
from walras.v1.oracle_service_pb2_grpc import OracleServiceServicer

from engine.domain.errors import InvalidInput, NotFound, Violation
from engine.domain.tiers import SecurityTier
from engine.market.state import MarketState
from engine.service.engine import Engine
from engine.service.fields import Checks, page_size, page_start, page_token


class OracleService(OracleServiceServicer):
    """Reads prices; nothing here changes them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetPrice(self, request: pb.GetPriceRequest, context: Any) -> pb.MarketPrice:  # noqa: N802
        """The price of one market."""
        if request.security_tier not in SecurityTier.__members__:
            known = ", ".join(SecurityTier.__members__)
            raise InvalidInput([Violation("security_tier", f"must be one of {known}")])
        wanted = (request.gpu_model, request.region, request.security_tier)
        for price in await self._engine.read(_prices):
            if (price.gpu_model, price.region, price.security_tier) == wanted:
                return price
        raise NotFound("there is no such market")

    async def ListPrices(self, request: pb.ListPricesRequest, context: Any) -> pb.ListPricesResponse:  # noqa: N802
        """Prices by model, region and tier."""
        checks = Checks()
        size = checks.read(page_size, request.page_size)
        after = checks.read(page_start, request.page_token)
        checks.done()
        assert size is not None and after is not None
        everything = await self._engine.read(_prices)
        prices = [price for price in everything if request.gpu_model in ("", price.gpu_model)]
        start = bisect_right([_token(price) for price in prices], after)
        response = pb.ListPricesResponse(prices=prices[start : start + size])
        if start + size < len(prices):
            response.next_page_token = page_token(_token(prices[start + size - 1]))
        return response


def _token(price: pb.MarketPrice) -> str:
    """Sorts like (model, region, tier): NUL comes before every printable character."""
    return "\0".join((price.gpu_model, price.region, str(int(SecurityTier[price.security_tier]))))


def _prices(state: MarketState) -> list[pb.MarketPrice]:
    """All markets of the fleet, by model, region and tier."""
    inventory = state.inventory
    keys, market = inventory.markets, inventory.market
    if not keys.size:
        return []
    free = np.bincount(market, weights=inventory.free, minlength=keys.size).astype(np.int64)
    posted = np.zeros(keys.size, dtype=np.int64)
    posted[market] = inventory.posted
    prices = []
    for key, price, source, gpus in zip(keys, posted, state.price_sources, free, strict=True):
        model, region, tier = inventory.market_names(key)
        prices.append(
            pb.MarketPrice(
                gpu_model=model,
                region=region,
                security_tier=tier,
                posted_price_micro_usd_per_gpu_hour=int(price),
                source=source,
                price_snapshot_id=inventory.price_snapshot_id,
                gpus_free=int(gpus),
            )
        )
    return prices
