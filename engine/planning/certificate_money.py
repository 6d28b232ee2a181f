"""Welfare, prices charged and the figures of the report, recomputed in exact integers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import polars as pl

from engine.planning.certificate_faults import Fault, FaultCode, faults_in_rows
from engine.planning.certificate_ledger import Ledger
from engine.planning.plan_files_schema import PlanStatus

RELATIVE_TOLERANCE = 1e-6
"""Of a bound, against float64 sums in another order."""
PRICE, ASK, LIST = "price_micro_usd_per_gpu_hour", "node_ask_micro_usd_per_gpu_hour", "node_list_price"
CAP = "max_price_micro_usd_per_gpu_hour"


def welfare_micro_usd_per_hour(ledger: Ledger, shifted: pl.DataFrame) -> int:
    """W of rule 1."""
    served = ledger.requests.join(ledger.rows, on="request_id", how="semi")
    values = _sum_of_products(served, "gpu_count", _due("value"))
    asks = _sum_of_products(ledger.rows, "gpus", _due(ASK))
    move_cost: int = ledger.files.report["move_cost_micro_usd"]
    moved = shifted.join(ledger.requests, on="request_id").with_columns(move_cost=move_cost)
    return values - asks - _sum_of_products(moved, "left", _due("move_cost"))


def wrong_prices(ledger: Ledger) -> Iterator[Fault]:
    """Prices that are not those of rule 8, and bills above the buyer's cap."""
    rows = ledger.rows.with_columns(_due(LIST).alias(LIST), _due(ASK).alias(ASK), _due(CAP).alias(CAP))
    bills = rows.group_by("request_id", maintain_order=True).agg(
        cap=_money("gpu_count").first() * _money(CAP).first(),
        bill=(_money("gpus") * _money(PRICE)).sum(),
        listed=(_money("gpus") * _money(LIST)).sum(),
        asks=(_money("gpus") * _money(ASK)).sum(),
    )
    sentence = "{request_id} pays {bill} an hour, at most {cap}"
    yield from faults_in_rows(bills, pl.col("bill") > pl.col("cap"), FaultCode.BUYER_ABOVE_CAP, sentence)
    ask, listed, asks, cap = (pl.col(name).cast(pl.Int128) for name in (ASK, LIST, "asks", "cap"))
    due = (
        pl.when(pl.col("listed") <= cap)
        .then(listed)
        .when(asks <= cap)
        .then(ask + (listed - ask) * (cap - asks) // pl.max_horizontal(pl.col("listed") - asks, 1))
        .otherwise(ask * cap // pl.max_horizontal(asks, 1))
    )
    priced = rows.join(bills, on="request_id", maintain_order="left").with_columns(due=due)
    sentence = f"{{request_id}} pays {{{PRICE}}} on {{node_id}}, by rule 8 {{due}}"
    yield from faults_in_rows(priced, pl.col(PRICE) != pl.col("due"), FaultCode.WRONG_PRICE, sentence)


def wrong_figures(ledger: Ledger, welfare: int) -> Iterator[Fault]:
    """Counts, welfare and make-whole of the report against the files."""
    charged = _sum_of_products(ledger.rows, "gpus", _money(PRICE))
    make_whole = _sum_of_products(ledger.rows, "gpus", _due(LIST)) - charged
    found = (
        ("requests", FaultCode.WRONG_COUNT, ledger.requests.height),
        ("requests_served", FaultCode.WRONG_COUNT, ledger.files.plan["request_id"].n_unique()),
        ("gpus_placed", FaultCode.WRONG_COUNT, int(ledger.files.plan["gpus"].sum())),
        ("welfare_micro_usd_per_hour", FaultCode.WRONG_WELFARE, welfare),
        ("make_whole_micro_usd_per_hour", FaultCode.WRONG_MAKE_WHOLE, make_whole),
    )
    for name, code, value in found:
        if ledger.files.report[name] != value:
            yield Fault(code, f"report says {name} {ledger.files.report[name]}, the files say {value}")


def wrong_bounds(report: dict[str, Any], welfare: int, dual: float) -> Iterator[Fault]:
    """Bounds below the welfare or what the prices prove, gaps that do not follow, a status that claims more."""
    bound, stronger = report["bound_micro_usd_per_hour"], report.get("stronger_bound_micro_usd_per_hour")
    if bound < dual - RELATIVE_TOLERANCE * abs(dual):
        yield Fault(FaultCode.BOUND_NOT_PROVEN, f"the bound is {bound}, the prices prove {dual}")
    for name, value in (("bound", bound), ("stronger_bound", stronger)):
        if value is not None and value < welfare:
            yield Fault(FaultCode.BOUND_BELOW_WELFARE, f"{name} {value} is below the welfare {welfare}")
    for name, value in (("gap", bound), ("stronger_gap", stronger)):
        due = None if value is None else _gap(value, welfare)
        if not _equal(report.get(name), due):
            yield Fault(FaultCode.WRONG_GAP, f"{name} is {report.get(name)}, by its bound {due}")
    least = bound if stronger is None else min(bound, stronger)
    if report["status"] not in list(PlanStatus):
        yield Fault(FaultCode.WRONG_STATUS, f"status {report['status']!r} is not one of {', '.join(PlanStatus)}")
    elif report["status"] == PlanStatus.OPTIMAL and not _reaches(welfare, least):
        yield Fault(FaultCode.WRONG_STATUS, f"OPTIMAL, but the bound is {least} and the welfare {welfare}")


def rests_on_stronger_bound(report: dict[str, Any], welfare: int) -> bool:
    """Whether an OPTIMAL is the solver's word: the bound that prices prove is not reached."""
    return report["status"] == PlanStatus.OPTIMAL and not _reaches(welfare, report["bound_micro_usd_per_hour"])


def _reaches(welfare: int, bound: int) -> bool:
    return bound - welfare <= RELATIVE_TOLERANCE * abs(bound)


def _money(column: str) -> pl.Expr:
    """Wide enough for totals, which may pass 2^63."""
    return pl.col(column).cast(pl.Int128)


def _due(price: str) -> pl.Expr:
    """A price per GPU-hour, of a part its share, rounded up."""
    whole, milli = _money(price), _money("part_milli")
    return pl.when(milli > 0).then((whole * milli + 999) // 1_000).otherwise(whole)


def _sum_of_products(rows: pl.DataFrame, gpus: str, price: pl.Expr) -> int:
    return int(rows.select((_money(gpus) * price).sum()).item())


def _gap(bound: int, welfare: int) -> float | None:
    if bound == welfare:
        return 0.0
    return (bound - welfare) / bound if bound > 0 else None


def _equal(reported: float | None, due: float | None) -> bool:
    if reported is None or due is None:
        return reported is due
    return math.isclose(reported, due, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-9)
