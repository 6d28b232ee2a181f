"""OracleService: prices now, as a stream and in the past; what GPUs would cost. Nothing here changes anything."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import islice
from typing import Any

import numpy as np
from walras.v1 import oracle_service_pb2 as pb
from walras.v1.oracle_service_pb2_grpc import OracleServiceServicer

from engine.domain.cluster_request import DEFAULT_DURATION_S
from engine.domain.errors import InvalidInput, NotFound, Violation
from engine.domain.limits import MAX_DURATION_S, MAX_GPU_COUNT, MAX_TOTAL_MICRO_USD
from engine.domain.tiers import SecurityTier
from engine.market.charges import BILLION
from engine.market.published import MarketName, PricePoint
from engine.market.state import MarketState
from engine.oracle.epoch import MarketView, sellable_gpu_seconds
from engine.oracle.forward import ForwardCurve
from engine.oracle.markets import joined
from engine.oracle.parameters import OracleParameters
from engine.oracle.quote_lines import Hold, Part, quote_price
from engine.oracle.steps import demand_steps, supply_steps
from engine.service import oracle_codec as codec
from engine.service.cluster_codec import required_cluster
from engine.service.cluster_service import QUOTE_TTL_S_MAX
from engine.service.engine import Engine
from engine.service.fields import Checks, bounded, page_size, page_start, page_token
from engine.service.indicative import indicative_price
from engine.service.market_view import Demand, ViewMaker, glimpse
from engine.service.oracle_feed import OracleFeed
from engine.service.price_watch import WATCH_SHARE, Watches, check_watch

PART_SIZE = 1_000
"""Prices in one message of a watch: about 400 KiB."""
INDICATIVE_DEADLINE_MS, INDICATIVE_DEADLINE_MS_MAX = 1_000, 10_000
LATEST_US = 2**62


class OracleService(OracleServiceServicer):
    """Thin: parse, read, answer. `feed`: the last snapshot."""

    def __init__(
        self, engine: Engine, feed: OracleFeed, parameters: OracleParameters, deadline_s_max: float
    ) -> None:
        self._engine, self._feed, self._parameters = engine, feed, parameters
        self._watches = Watches(engine, feed, WATCH_SHARE * deadline_s_max)
        self._views, self._viewing = ViewMaker(parameters), asyncio.Lock()
        self._viewed: tuple[Any, tuple[MarketView, Demand]] | None = None

    async def GetPrice(self, request: pb.GetPriceRequest, context: Any) -> pb.MarketPrice:  # noqa: N802
        """The price of one market."""
        market = codec.market_of(request)
        return await self._engine.read(lambda state: self._price(state, market))

    async def ListPrices(self, request: pb.ListPricesRequest, context: Any) -> pb.ListPricesResponse:  # noqa: N802
        """Prices by model, region and tier."""
        checks = Checks()
        size = checks.read(page_size, request.page_size)
        after = checks.read(page_start, request.page_token)
        checks.done()
        assert size is not None and after is not None

        def answer(state: MarketState) -> pb.ListPricesResponse:
            lines = [line for line in codec.market_lines(state) if request.gpu_model in ("", line.name[0])]
            start = bisect_right([_token(line.name) for line in lines], after)
            page = lines[start : start + size]
            response = pb.ListPricesResponse(prices=self._messages(state, page))
            if start + size < len(lines):
                response.next_page_token = page_token(_token(page[-1].name))
            return response

        return await self._engine.read(answer)

    async def WatchPrices(  # noqa: N802
        self, request: pb.WatchPricesRequest, context: Any
    ) -> AsyncIterator[pb.WatchPricesResponse]:
        """Snapshots as they are published."""
        check_watch(request)
        async with aclosing(self._watches.run(request, context.time_remaining(), self._parts)) as parts:
            async for part in parts:
                yield part

    async def GetPriceHistory(  # noqa: N802
        self, request: pb.GetPriceHistoryRequest, context: Any
    ) -> pb.GetPriceHistoryResponse:
        """Past prices of one market."""
        checks = Checks()
        market = checks.read(codec.market_of, request)
        size = checks.read(page_size, request.page_size)
        after = checks.read(_first_epoch, request.page_token)
        start_us = checks.read(bounded, request.start_time_us, "start_time_us", 0, LATEST_US)
        end_us = request.end_time_us if request.HasField("end_time_us") else LATEST_US
        checks.read(bounded, end_us, "end_time_us", start_us or 0, LATEST_US)
        checks.done()
        assert market is not None and size is not None and after is not None and start_us is not None

        def chosen(state: MarketState) -> list[PricePoint]:
            knows = _Knows(market)
            history = [point for point in state.oracle.history if knows.it(point)]
            if not history and market not in state.inventory.market_index:
                raise NotFound("there is no such market")
            points = (p for p in history if p.epoch > after and start_us <= p.taken_at_us < end_us)
            return list(islice(points, size + 1))

        history = await self._engine.read(chosen)
        points = await asyncio.to_thread(lambda: list(codec.points_of(history[:size], market)))
        response = pb.GetPriceHistoryResponse(points=points)
        response.retention_s = self._parameters.history_retention_us // 1_000_000
        if len(history) > size:
            response.next_page_token = page_token(str(points[-1].epoch))
        return response

    async def EstimateCost(self, request: pb.EstimateCostRequest, context: Any) -> pb.CostEstimate:  # noqa: N802
        """Hours to cost."""
        checks = Checks()
        market = checks.read(codec.market_of, request)
        checks.read(bounded, request.gpu_count, "gpu_count", 1, MAX_GPU_COUNT)
        duration_s = request.duration_s if request.HasField("duration_s") else DEFAULT_DURATION_S
        checks.read(bounded, duration_s, "duration_s", 1, MAX_DURATION_S)
        if request.HasField("hold_s"):
            checks.read(bounded, request.hold_s, "hold_s", 1, QUOTE_TTL_S_MAX)
        checks.done()
        assert market is not None

        def answer(state: MarketState) -> pb.CostEstimate:
            part = self._part(state, market, request.gpu_count, duration_s)
            sigma = state.oracle.volatility_ppb.get(market, 0) / BILLION
            hold = Hold(sigma, request.hold_s / 3_600) if request.hold_s else None
            priced = quote_price([part], 0, duration_s, self._parameters, hold)
            if priced.total_micro_usd > MAX_TOTAL_MICRO_USD:
                raise InvalidInput([Violation("duration_s", "makes the total larger than can be charged")])
            return codec.estimate_message(priced, market, request.gpu_count, duration_s, state)

        return await self._engine.read(answer)

    async def GetSupplyCurve(  # noqa: N802
        self, request: pb.GetSupplyCurveRequest, context: Any
    ) -> pb.SupplyCurve:
        """Supply and demand of one market as steps."""
        market = codec.market_of(request)

        price = await self._engine.read(lambda state: self._price(state, market))
        async with self._viewing:
            view, demand = await self._view()
            bids = joined(*demand)
        place = [(each.gpu_model, each.region, each.tier.name) for each in view.markets].index(market)
        sellable = sellable_gpu_seconds(view.supply, self._parameters)
        return pb.SupplyCurve(
            supply=codec.step_messages(supply_steps(place, view.supply, sellable)),
            demand=codec.step_messages(demand_steps(place, bids, self._parameters)),
            price=price,
            window_s=self._parameters.window_s,
        )

    async def GetIndicativePrice(  # noqa: N802
        self, request: pb.GetIndicativePriceRequest, context: Any
    ) -> pb.IndicativePrice:
        """What a cluster would cost."""
        checks = Checks()
        cluster = checks.read(required_cluster, request)
        deadline_ms = request.deadline_ms if request.HasField("deadline_ms") else INDICATIVE_DEADLINE_MS
        checks.read(bounded, deadline_ms, "deadline_ms", 1, INDICATIVE_DEADLINE_MS_MAX)
        checks.done()
        assert cluster is not None
        try:
            return await indicative_price(self._engine, cluster, deadline_ms / 1_000)
        except InvalidInput as error:
            raise error.within("cluster.") from None

    async def _view(self) -> tuple[MarketView, Demand]:
        """Supply and demand, looked at once an epoch and fleet, however often they are asked for."""
        state = self._engine.state
        seen_at = state.oracle.epoch, id(state.inventory)
        if self._viewed is None or self._viewed[0] != seen_at:
            seen = glimpse(state, self._engine.now_us(), self._parameters.window_s)
            self._viewed = seen_at, await asyncio.to_thread(self._views.view, seen, self._feed.snapshot())
        return self._viewed[1]

    def _price(self, state: MarketState, market: MarketName) -> pb.MarketPrice:
        for line in codec.market_lines(state):
            if line.name == market:
                return self._messages(state, [line])[0]
        raise NotFound("there is no such market")

    def _messages(self, state: MarketState, lines: list[codec.MarketLine]) -> list[pb.MarketPrice]:
        known = self._feed.by_name()
        return [codec.price_message(line, known.get(line.name), state, self._parameters) for line in lines]

    def _parts(self, state: MarketState, request: pb.WatchPricesRequest) -> list[pb.WatchPricesResponse]:
        """The snapshot of now in messages of a bounded size; at least one."""
        wanted = (request.gpu_model, request.region, request.security_tier)
        lines = [
            line
            for line in codec.market_lines(state)
            if all(not want or want == own for want, own in zip(wanted, line.name, strict=True))
        ]
        parts = [
            pb.WatchPricesResponse(
                epoch=state.oracle.epoch,
                price_snapshot_id=state.inventory.price_snapshot_id,
                taken_time_us=state.oracle.taken_at_us,
                prices=self._messages(state, lines[start : start + PART_SIZE]),
            )
            for start in range(0, max(len(lines), 1), PART_SIZE)
        ]
        parts[-1].last_part = True
        return parts

    def _part(self, state: MarketState, market: MarketName, gpus: int, duration_s: int) -> Part:
        inventory = state.inventory
        place = inventory.market_index.get(market)
        if place is None:
            raise NotFound("there is no such market")
        cheapest = int(inventory.cheapest_for(np.array([place]), duration_s)[0])
        here, elsewhere = (
            ForwardCurve(int(inventory.posted_of_market[m]), int(inventory.long_run[m]), inventory.half_life_h)
            for m in (place, cheapest)
        )
        return Part(place, gpus, 0, here, elsewhere)


class _Knows:
    """Whether points know a market; points of one fleet share their list of markets, so it is searched once."""

    def __init__(self, market: MarketName) -> None:
        self._market = market
        self._markets: list[MarketName] = []
        self._known = False

    def it(self, point: PricePoint) -> bool:
        if point.markets is not self._markets:
            self._markets, self._known = point.markets, self._market in point.markets
        return self._known


def _token(market: MarketName) -> str:
    """Sorts like (model, region, tier): NUL comes before every printable character."""
    return "\0".join((*market[:2], str(int(SecurityTier[market[2]]))))


def _first_epoch(token: str) -> int:
    """The epoch that the page before ended with; -1 for the first page."""
    text = page_start(token)
    if text and not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput([Violation("page_token", "is not a token of this engine")])
    return int(text) if text else -1
