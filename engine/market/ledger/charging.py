"""To whom goes what is due of a span. Pure integers; all rounding is `money`'s. How much is due, refunds tell.

While a span runs, everyone has got the whole micro-dollars of its exact part of what is due, and the dust, less
than a micro-dollar each, stays in the escrow. When the span closes, fees are rounded down once, suppliers share
the rest by largest remainder, and nothing is left. Both only ever grow with time, so it does not matter when and
how often a lease is settled: only the amounts due at its close count.
"""

from __future__ import annotations

from engine.domain.money import part_micro_usd, split_micro_usd
from engine.market.ledger import accounts
from engine.market.ledger.entries import Span
from engine.market.ledger.rules import PPM


def parts_due(span: Span, charged: int) -> dict[str, int]:
    """Whole micro-dollars of everyone's part, by account."""
    parts = _pots(span, charged)
    suppliers_ppm = PPM - span.network_fee_ppm - span.burn_ppm - span.make_whole_ppm
    whole = sum(span.weights) * PPM
    for name, weight in zip(span.suppliers, span.weights, strict=True):
        parts[accounts.supplier(name)] = part_micro_usd(charged, weight * suppliers_ppm, whole)
    return parts


def parts_at_close(span: Span, charged: int) -> dict[str, int]:
    """Everyone's final part, by account; they sum to what is charged."""
    parts = _pots(span, charged)
    shares = split_micro_usd(charged - sum(parts.values()), span.weights)
    parts.update(zip(map(accounts.supplier, span.suppliers), shares, strict=True))
    return parts


def _pots(span: Span, charged: int) -> dict[str, int]:
    return {
        accounts.NETWORK_FEE: part_micro_usd(charged, span.network_fee_ppm, PPM),
        accounts.BURN: part_micro_usd(charged, span.burn_ppm, PPM),
        accounts.MAKE_WHOLE: part_micro_usd(charged, span.make_whole_ppm, PPM),
    }
