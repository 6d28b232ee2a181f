"""What the checker can find wrong with a plan: typed, with a sentence that names the request, node or row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

import polars as pl

MAX_LISTED = 20
"""Faults listed per code and rule; one more then counts the rest."""


class FaultCode(StrEnum):
    """One code per rule of docs/planning.md."""

    INPUT_CHANGED = "INPUT_CHANGED"
    UNKNOWN_NAME = "UNKNOWN_NAME"
    DUPLICATE_ROW = "DUPLICATE_ROW"
    NOT_ANSWERED = "NOT_ANSWERED"
    ANSWERED_TWICE = "ANSWERED_TWICE"
    MUST_STAY_SERVED = "MUST_STAY_SERVED"
    WRONG_REASON = "WRONG_REASON"
    SPLIT_GANG = "SPLIT_GANG"
    SPLIT_REPLICA = "SPLIT_REPLICA"
    NODE_NOT_READY = "NODE_NOT_READY"
    OVERFULL_NODE = "OVERFULL_NODE"
    OVERFULL_CARD = "OVERFULL_CARD"
    OVERFULL_CPU = "OVERFULL_CPU"
    OVERFULL_MEMORY = "OVERFULL_MEMORY"
    WRONG_CARD = "WRONG_CARD"
    PINNED_MOVED = "PINNED_MOVED"
    WRONG_MODEL = "WRONG_MODEL"
    MIXED_MODELS = "MIXED_MODELS"
    WRONG_LOCATION = "WRONG_LOCATION"
    EXCLUDED_LOCATION = "EXCLUDED_LOCATION"
    FAR_FROM_CLIENT = "FAR_FROM_CLIENT"
    DISTANT_PAIR = "DISTANT_PAIR"
    SECURITY_TIER = "SECURITY_TIER"
    CERTIFICATIONS = "CERTIFICATIONS"
    CONNECTIVITY_TIER = "CONNECTIVITY_TIER"
    INTERCONNECT = "INTERCONNECT"
    TORN_FABRIC = "TORN_FABRIC"
    RELIABILITY = "RELIABILITY"
    WRONG_SUPPLIER = "WRONG_SUPPLIER"
    SUPPLIER_SHARE = "SUPPLIER_SHARE"
    WRONG_MOVES = "WRONG_MOVES"
    MOVED_TWICE = "MOVED_TWICE"
    MOVE_OVERFILLS = "MOVE_OVERFILLS"
    WRONG_PRICE = "WRONG_PRICE"
    BUYER_ABOVE_CAP = "BUYER_ABOVE_CAP"
    WRONG_MAKE_WHOLE = "WRONG_MAKE_WHOLE"
    WRONG_COUNT = "WRONG_COUNT"
    WRONG_WELFARE = "WRONG_WELFARE"
    BOUND_NOT_PROVEN = "BOUND_NOT_PROVEN"
    BOUND_BELOW_WELFARE = "BOUND_BELOW_WELFARE"
    WRONG_GAP = "WRONG_GAP"
    WRONG_STATUS = "WRONG_STATUS"


class Fault(NamedTuple):
    """One rule that the plan breaks."""

    code: FaultCode
    sentence: str


def faults_in_rows(rows: pl.DataFrame, broken: pl.Expr, code: FaultCode, sentence: str) -> Iterator[Fault]:
    """A fault per row where `broken` is true (null is not); `sentence` is filled with the row's columns."""
    found = rows.filter(broken)
    for row in found.head(MAX_LISTED).iter_rows(named=True):
        yield Fault(code, sentence.format_map(row))
    if found.height > MAX_LISTED:
        yield Fault(code, f"{found.height - MAX_LISTED} more of this kind")


def first_faults(faults: Iterable[Fault]) -> Iterator[Fault]:
    """The same, of every code no more than `MAX_LISTED`, then their number."""
    seen: dict[FaultCode, int] = {}
    for fault in faults:
        seen[fault.code] = seen.get(fault.code, 0) + 1
        if seen[fault.code] <= MAX_LISTED:
            yield fault
    for code, count in seen.items():
        if count > MAX_LISTED:
            yield Fault(code, f"{count - MAX_LISTED} more of this kind")
