"""Every request is answered once: served whole, or refused with a reason that can be true."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import polars as pl

from engine.planning.certificate_bound import worth
from engine.planning.certificate_faults import Fault, FaultCode, faults_in_rows
from engine.planning.certificate_ledger import Ledger
from engine.planning.certificate_supply import Request
from engine.planning.plan_files_schema import RefusalReason

ANY = pl.lit(True)
OF_RUNNING = (RefusalReason.DISPLACED, RefusalReason.PREEMPTED)
BY_COST = [reason for reason in RefusalReason if reason not in OF_RUNNING]


def wrong_names(ledger: Ledger) -> Iterator[Fault]:
    """Requests and nodes that stand in no input, and rows that are there twice."""
    files = ledger.files
    tables = {"plan": files.plan, "refusals": files.refusals, "moves": files.moves}
    for name, table in tables.items():
        strangers = table.join(ledger.requests, on="request_id", how="anti")
        yield from faults_in_rows(strangers, ANY, FaultCode.UNKNOWN_NAME, name + " names request {request_id}")
    for name, column in (("plan", "node_id"), ("moves", "from_node_id"), ("moves", "to_node_id")):
        strangers = tables[name].join(ledger.fleet, left_on=column, right_on="node_id", how="anti")
        yield from faults_in_rows(strangers, ANY, FaultCode.UNKNOWN_NAME, f"{name} names node {{{column}}}")
    for name, columns in (("plan", ["request_id", "node_id"]), ("refusals", ["request_id"])):
        repeated = tables[name].filter(pl.struct(columns).is_duplicated()).unique(columns, maintain_order=True)
        sentence = name + " has several rows of " + " on ".join(f"{{{column}}}" for column in columns)
        yield from faults_in_rows(repeated, ANY, FaultCode.DUPLICATE_ROW, sentence)


def wrong_answers(ledger: Ledger) -> Iterator[Fault]:
    """Requests without an answer or with two, work that was ended and may not be, reasons that cannot be."""
    placed = ledger.files.plan.group_by("request_id").agg(placed=pl.col("gpus").sum())
    refused = ledger.files.refusals.unique("request_id").select("request_id", "reason")
    answers = ledger.requests.join(placed, on="request_id", how="left", maintain_order="left").join(
        refused, on="request_id", how="left", maintain_order="left"
    )
    served, reason = pl.col("placed").is_not_null(), pl.col("reason")
    running, displaced, pinned = pl.col("running"), pl.col("displaced"), pl.col("pinned_gpus") > 0
    preemptible = running & ~displaced & pl.col("interruptible") & ~pinned
    rules = (
        (~served & reason.is_null(), FaultCode.NOT_ANSWERED, "{request_id} is neither served nor refused"),
        (served & reason.is_not_null(), FaultCode.ANSWERED_TWICE, "{request_id} is both served and refused"),
        (~served & pl.col("must_serve"), FaultCode.MUST_STAY_SERVED, "{request_id} runs and may not be ended"),
        (
            served & (pl.col("placed") != pl.col("gpu_count")),
            FaultCode.SPLIT_GANG,
            "{request_id} asks for {gpu_count} GPUs and gets {placed}",
        ),
        (
            ((reason == RefusalReason.DISPLACED) & ~displaced)
            | ((reason == RefusalReason.PREEMPTED) & ~preemptible)
            | (running & reason.is_in(BY_COST)),
            FaultCode.WRONG_REASON,
            "{request_id} cannot be refused as {reason}",
        ),
    )
    for broken, code, sentence in rules:
        yield from faults_in_rows(answers, broken, code, sentence)


def judged_by_cost(ledger: Ledger) -> pl.DataFrame:
    """Requests that are refused for a reason that the cost of their cheapest placement bears out, or does not."""
    said = ledger.files.refusals.filter(pl.col("reason").is_in(BY_COST)).unique("request_id")
    return ledger.requests.join(said.select("request_id", "reason"), on="request_id", maintain_order="left")


def wrong_reasons(judged: pl.DataFrame, at_asks: Mapping[str, float]) -> Iterator[Fault]:
    """Reasons that the least cost of each request at the asks, were it alone, does not allow (rule 9)."""
    for request in judged.iter_rows(named=True):
        cost = at_asks[request["request_id"]]
        if request["reason"] not in _possible(request, cost):
            told = "fits nowhere" if math.isinf(cost) else f"would cost {cost:.0f} an hour alone"
            sentence = f"{request['request_id']}, worth {worth(request)} an hour, {told}: not {request['reason']}"
            yield Fault(FaultCode.WRONG_REASON, sentence)


def _possible(request: Request, cost: float) -> set[str]:
    """The reasons that `cost` allows. With a limit between sites it is a lower bound: the star's."""
    if math.isinf(cost):
        return {RefusalReason.NO_FEASIBLE_PLACEMENT}
    is_bound = request["max_cluster_rtt_ms"] is not None
    rounding = request["gpu_count"] if request["part_milli"] else 0  # each part costs whole micro-USD
    reasons: set[str] = {RefusalReason.NO_FEASIBLE_PLACEMENT} if is_bound else set()
    if cost <= worth(request):
        reasons.add(RefusalReason.SCARCE_CAPACITY)
    if is_bound or cost + rounding > worth(request):
        reasons.add(RefusalReason.PRICE_TOO_LOW)
    return reasons
