"""What the twin knows of leases, quotes and orders, and what the contract calls their requests."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from engine.market.events import LeaseShrunk
from engine.market.lease_terms import Terms
from tests.service.loopback import Row

Placement = dict[str, int]


@dataclass
class Lease:
    tenant: str
    terms: Terms
    placement: Placement
    starts_us: int
    ends_us: int
    quote: str
    total: int
    is_running: bool = True
    reason: str = ""
    back: int = 0
    epoch: int = 1
    notice_us: int = 0
    """When it will end unless it moves; 0: it has no notice."""


@dataclass
class Quote:
    tenant: str
    terms: Terms
    placement: Placement
    expires_us: int
    hold: bool
    is_open: bool = True
    lease: str = ""
    reason: str = ""

    @property
    def holds(self) -> bool:
        return self.hold and self.is_open


@dataclass
class Order:
    tenant: str
    expires_us: int
    limit: int
    state: str = "OPEN"
    lease: str = ""


def shrunk(terms: Terms, event: LeaseShrunk) -> Terms:
    rate = int(
        np.frombuffer(event.gpus, "<i4").astype(np.int64)
        @ np.frombuffer(event.prices_micro_usd_per_gpu_hour, "<i8")
    )
    request = msgspec.structs.replace(terms.request, gpu_count=event.gpu_count)
    return msgspec.structs.replace(
        terms,
        request=request,
        rate_micro_usd_per_hour=rate,
        nodes=event.nodes,
        gpus=event.gpus,
        prices_micro_usd_per_gpu_hour=event.prices_micro_usd_per_gpu_hour,
    )


def row_of(terms: Terms) -> Row:
    """The request with the contract's names and plain values."""
    request = terms.request
    row: Row = {name: getattr(request, name) for name in request.__slots__}
    for name in ("min_security_tier", "min_connectivity_tier", "min_interconnect"):
        row[name] = None if row[name] is None else row[name].name
    return row
