"""What a cluster would cost now, without commitment, within a deadline of its own.

The work is the placement of the request, of the request without its price limit, and, if neither is possible, the
explanation. Each step is one decision on the event loop; the deadline is looked at between them.
"""

from __future__ import annotations

import time

from msgspec.structs import replace
from walras.v1 import oracle_service_pb2 as pb

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import Refused
from engine.domain.limits import MILLI_OF_GPU
from engine.market.explain import explain_refusal
from engine.market.lease_terms import Terms
from engine.market.state import MarketState
from engine.market.terms import terms_of
from engine.service.cluster_codec import write_price
from engine.service.engine import Engine

DEADLINE, TOO_DEAR = "DEADLINE", "MAX_PRICE_MICRO_USD_PER_GPU_HOUR"


async def indicative_price(engine: Engine, request: ClusterRequest, within_s: float) -> pb.IndicativePrice:
    """The answer; evaluated is False if the deadline came first. InvalidInput like a deployment."""
    ends_s = time.monotonic() + within_s
    # What a budget pays for depends on the cap, so it is kept.
    uncapped = request if request.all_matching else replace(request, max_price_micro_usd_per_gpu_hour=None)

    def answer(state: MarketState) -> pb.IndicativePrice:
        message = pb.IndicativePrice(evaluated=True, fleet_version=state.fleet_version)
        try:
            free = terms_of(state, uncapped, engine.book)
        except Refused as refusal:
            return _late(state) if time.monotonic() >= ends_s else _infeasible(state, uncapped, refusal, message)
        message.feasible_from_micro_usd_per_gpu_hour = _least_limit(free)
        if time.monotonic() >= ends_s:
            return _late(state)
        return _within_cap(state, request, free, message)

    return await engine.read(answer)


def _least_limit(terms: Terms) -> int:
    """The least price limit that allows the placement; at most 1 micro-USD above it where hours differ, and of a
    part so much as rounding its share up adds."""
    gpus, duration_s, part = terms.request.gpu_count, terms.duration_s, terms.request.gpu_milli
    if len({line.from_s for line in terms.lines}) == 1:
        least = -(-terms.rate_micro_usd_per_hour // gpus)
    else:
        least = -(-(2 * terms.total_micro_usd + 1) * 1_800 // (gpus * duration_s))
    return least if part is None else least * MILLI_OF_GPU // part


def _within_cap(
    state: MarketState, request: ClusterRequest, terms: Terms, message: pb.IndicativePrice
) -> pb.IndicativePrice:
    cap = request.max_price_micro_usd_per_gpu_hour
    needed = message.feasible_from_micro_usd_per_gpu_hour
    if cap is not None and cap < needed:
        message.reason = TOO_DEAR
        message.detail = f"the cheapest placement averages {needed} micro-USD per GPU-hour, above the cap of {cap}"
        return message
    message.schedulable, message.detail = True, "the request can be served"
    write_price(message.price, terms)
    return message


def _infeasible(
    state: MarketState, request: ClusterRequest, refusal: Refused, message: pb.IndicativePrice
) -> pb.IndicativePrice:
    explained = explain_refusal(state, request, refusal)
    message.reason, message.detail = explained.reason, explained.detail
    return message


def _late(state: MarketState) -> pb.IndicativePrice:
    detail = "the deadline came before the answer"
    return pb.IndicativePrice(reason=DEADLINE, detail=detail, fleet_version=state.fleet_version)
