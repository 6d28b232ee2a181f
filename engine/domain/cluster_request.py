"""A cluster request: the one value that every way of asking becomes, checked once when it is born.

`parse_cluster_request` takes the field names of the contract with plain Python values, whatever they came
from (a gRPC message, a JSON file, a Parquet row), and lists every violation. An empty list and null mean the
same: unconstrained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from operator import attrgetter
from typing import Any

import msgspec

from engine.domain.errors import InvalidInput
from engine.domain.limits import (
    MAX_CPU_MILLI,
    MAX_DURATION_S,
    MAX_GPU_COUNT,
    MAX_GPUS_PER_NODE,
    MAX_MEMORY_MIB,
    MAX_PRICE_MICRO_USD_PER_GPU_HOUR,
    MAX_RTT_MS,
    MAX_TOTAL_MICRO_USD,
    MILLI_OF_GPU,
)
from engine.domain.raw_fields import FieldReader, text_problem
from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier

__all__ = [
    "DEFAULT_DURATION_S",
    "REQUEST_FIELDS",
    "SHARE_TOLERANCE",
    "ClusterRequest",
    "parse_cluster_request",
    "text_problem",
]

DEFAULT_DURATION_S = 3_600
"""Online calls that name no duration are priced for one hour, and say so in the answer."""

SHARE_TOLERANCE = 1e-9


class ClusterRequest(msgspec.Struct, frozen=True, gc=False):
    """What a tenant asks for. Placed whole or not at all.

    Tuples are sorted and free of duplicates; an empty one is unconstrained, as is None.
    RTT limits are milliseconds and inclusive (rtt <= limit + 1e-6). `gpu_count` is a multiple of
    `gpus_per_node`: the cluster is gpu_count / gpus_per_node replicas, each on one node. `gpu_milli`: the
    thousandths of one GPU that are wanted, below 1,000 (a whole GPU is None). `cpu_milli`, `memory_mib`: what each
    replica needs beside its GPUs.
    """

    gpu_count: int
    request_id: str = ""
    gpu_models: tuple[str, ...] = ()
    allow_mixed_models: bool = False
    gpus_per_node: int = 1
    regions: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    excluded_regions: tuple[str, ...] = ()
    excluded_countries: tuple[str, ...] = ()
    excluded_sites: tuple[str, ...] = ()
    client_latitude: float | None = None
    client_longitude: float | None = None
    client_site: str | None = None
    max_client_rtt_ms: float | None = None
    max_cluster_rtt_ms: float | None = None
    min_security_tier: SecurityTier | None = None
    certifications: tuple[str, ...] = ()
    min_connectivity_tier: ConnectivityTier | None = None
    min_interconnect: Interconnect | None = None
    same_fabric: bool = False
    min_reliability: float | None = None
    allowed_suppliers: tuple[str, ...] = ()
    excluded_suppliers: tuple[str, ...] = ()
    max_supplier_share: float | None = None
    duration_s: int | None = None
    max_price_micro_usd_per_gpu_hour: int | None = None
    interruptible: bool = False
    all_matching: bool = False
    budget_micro_usd: int | None = None
    gpu_milli: int | None = None
    cpu_milli: int | None = None
    memory_mib: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it asks for whole GPUs and for nothing beside them."""
        return self.gpu_milli is None and self.cpu_milli is None and self.memory_mib is None

    @property
    def gpu_share(self) -> int:
        """Thousandths of a GPU in all."""
        return self.gpu_count * (self.gpu_milli or MILLI_OF_GPU)

    @property
    def replicas(self) -> int:
        """Number of replicas of `gpus_per_node` GPUs."""
        return self.gpu_count // self.gpus_per_node

    @property
    def priced_duration_s(self) -> int:
        """The duration that a quote is for."""
        return self.duration_s if self.duration_s is not None else DEFAULT_DURATION_S

    @property
    def max_gpus_per_supplier(self) -> int | None:
        """⌊share·n + 1e-9⌋, None without a share limit."""
        if self.max_supplier_share is None:
            return None
        return math.floor(self.max_supplier_share * self.gpu_count + SHARE_TOLERANCE)


REQUEST_FIELDS: tuple[str, ...] = ClusterRequest.__struct_fields__

_AFTER_ID = attrgetter(*REQUEST_FIELDS[2:])
assert REQUEST_FIELDS[:2] == ("gpu_count", "request_id")


def with_request_id(request: ClusterRequest, request_id: str) -> ClusterRequest:
    """The same under another id."""
    if request.request_id == request_id:
        return request
    return msgspec.structs.replace(request, request_id=request_id)


def with_gpu_count(request: ClusterRequest, gpu_count: int) -> ClusterRequest:
    """The same in another size, which must be a multiple of `gpus_per_node`."""
    return msgspec.structs.replace(request, gpu_count=gpu_count)


def wish_of(request: ClusterRequest) -> tuple[Any, ...]:
    """What tells requests apart but their ids: ten times as fast as one without an id, made to be looked up."""
    return request.gpu_count, *_AFTER_ID(request)


def shape_of(request: ClusterRequest) -> tuple[Any, ...]:
    """What tells requests apart but their ids and their sizes."""
    shape: tuple[Any, ...] = _AFTER_ID(request)
    return shape


def shapes_of(requests: Iterable[ClusterRequest]) -> tuple[list[ClusterRequest], list[int]]:
    """(one request of each shape among some, the shape of each)."""
    requests, number = list(requests), dict[tuple[Any, ...], int]()
    each = [number.setdefault(shape_of(request), len(number)) for request in requests]
    return [requests[each.index(shape)] for shape in range(len(number))], each


def parse_cluster_request(raw: Mapping[str, Any], prefix: str = "") -> ClusterRequest:
    """Check raw fields and build the request; InvalidInput lists every violation, fields named with `prefix`."""
    reader = FieldReader(raw, prefix)
    values = {name: read(reader, name) for name, read in _READERS.items()}
    reader.reject_unknown_fields(_READERS)
    _check_together(reader, values)
    if reader.violations:
        raise InvalidInput(reader.violations)
    return ClusterRequest(**values)


def _required_count(reader: FieldReader, name: str) -> int:
    if reader.raw.get(name) is None and reader.raw.get("all_matching") is True:
        least = reader.raw.get("gpus_per_node")  # its own reader says what is wrong with it
        return least if isinstance(least, int) and 1 <= least <= MAX_GPUS_PER_NODE else 1
    if reader.raw.get(name) is None:
        reader.wrong(name, "is required, at least 1")
    return reader.integer(name, 1, MAX_GPU_COUNT) or 1


def _request_id(reader: FieldReader, name: str) -> str:
    return reader.text(name) or ""


def _gpus_per_node(reader: FieldReader, name: str) -> int:
    return reader.integer(name, 1, MAX_GPUS_PER_NODE) or 1


def _gpu_milli(reader: FieldReader, name: str) -> int | None:
    """All of a GPU is no part of it."""
    milli = reader.integer(name, 1, MILLI_OF_GPU)
    return None if milli == MILLI_OF_GPU else milli


def _integer(low: int, high: int) -> Callable[[FieldReader, str], int | None]:
    return lambda reader, name: reader.integer(name, low, high)


def _real(low: float, high: float) -> Callable[[FieldReader, str], float | None]:
    return lambda reader, name: reader.real(name, low, high)


def _grade(grades: type[IntEnum]) -> Callable[[FieldReader, str], IntEnum | None]:
    return lambda reader, name: reader.grade(name, grades)


def _supplier_share(reader: FieldReader, name: str) -> float | None:
    share = reader.real(name, 0.0, 1.0)
    if share == 0.0:
        reader.wrong(name, "must be above 0")
    return share


_READERS: dict[str, Callable[[FieldReader, str], Any]] = {
    "gpu_count": _required_count,
    "request_id": _request_id,
    "gpu_models": FieldReader.texts,
    "allow_mixed_models": FieldReader.flag,
    "gpus_per_node": _gpus_per_node,
    "regions": FieldReader.texts,
    "countries": FieldReader.texts,
    "sites": FieldReader.texts,
    "excluded_regions": FieldReader.texts,
    "excluded_countries": FieldReader.texts,
    "excluded_sites": FieldReader.texts,
    "client_latitude": _real(-90.0, 90.0),
    "client_longitude": _real(-180.0, 180.0),
    "client_site": FieldReader.text,
    "max_client_rtt_ms": _real(0.0, MAX_RTT_MS),
    "max_cluster_rtt_ms": _real(0.0, MAX_RTT_MS),
    "min_security_tier": _grade(SecurityTier),
    "certifications": FieldReader.texts,
    "min_connectivity_tier": _grade(ConnectivityTier),
    "min_interconnect": _grade(Interconnect),
    "same_fabric": FieldReader.flag,
    "min_reliability": _real(0.0, 1.0),
    "allowed_suppliers": FieldReader.texts,
    "excluded_suppliers": FieldReader.texts,
    "max_supplier_share": _supplier_share,
    "duration_s": _integer(1, MAX_DURATION_S),
    "max_price_micro_usd_per_gpu_hour": _integer(1, MAX_PRICE_MICRO_USD_PER_GPU_HOUR),
    "interruptible": FieldReader.flag,
    "all_matching": FieldReader.flag,
    "budget_micro_usd": _integer(1, MAX_TOTAL_MICRO_USD),
    "gpu_milli": _gpu_milli,
    "cpu_milli": _integer(1, MAX_CPU_MILLI),
    "memory_mib": _integer(1, MAX_MEMORY_MIB),
}


def _check_together(reader: FieldReader, values: dict[str, Any]) -> None:
    """Rules between fields: limits that contradict each other can never be served, so they are bad input."""
    count, per_node = values["gpu_count"], values["gpus_per_node"]
    if reader.readable("gpu_count", "gpus_per_node") and count % per_node:
        reader.wrong("gpus_per_node", f"must divide gpu_count: {count} is not a multiple of {per_node}")
    _check_client(reader, values)
    _check_budget(reader, values)
    _check_part(reader, values)
    for wanted, excluded in (
        ("regions", "excluded_regions"),
        ("countries", "excluded_countries"),
        ("sites", "excluded_sites"),
        ("allowed_suppliers", "excluded_suppliers"),
    ):
        if both := sorted(set(values[wanted]) & set(values[excluded])):
            reader.wrong(excluded, f"contradicts {wanted}: {', '.join(both)} is in both")
    share = values["max_supplier_share"]
    shares_readable = reader.readable("gpu_count", "gpus_per_node", "max_supplier_share")
    if share is not None and shares_readable and math.floor(share * count + SHARE_TOLERANCE) < per_node:
        reader.wrong("max_supplier_share", f"allows a supplier less than one replica of {per_node} GPUs")


def _check_budget(reader: FieldReader, values: dict[str, Any]) -> None:
    if values["all_matching"] and values["budget_micro_usd"] is None and reader.readable("budget_micro_usd"):
        reader.wrong("budget_micro_usd", "is required with all_matching")
    if not values["all_matching"] and values["budget_micro_usd"] is not None:
        reader.wrong("budget_micro_usd", "goes with all_matching only; max_price caps what a cluster costs")
    if values["all_matching"] and values["interruptible"]:
        reader.wrong("interruptible", "has a price that changes, which no budget holds: not with all_matching")
    if values["all_matching"] and values["max_supplier_share"] is not None:
        reader.wrong("max_supplier_share", "is a share of a known number of GPUs: not with all_matching")


def _check_part(reader: FieldReader, values: dict[str, Any]) -> None:
    if reader.raw.get("gpu_milli") is None or not reader.readable("gpu_count"):
        return
    if values["gpu_count"] != 1:
        reader.wrong("gpu_milli", f"is a part of one GPU: gpu_count must be 1, got {values['gpu_count']}")
    if values["all_matching"]:
        reader.wrong("gpu_milli", "is a part of one GPU: not with all_matching")


def _check_client(reader: FieldReader, values: dict[str, Any]) -> None:
    if not reader.readable("client_latitude", "client_longitude", "client_site"):
        return
    latitude, longitude, site = (values[name] for name in ("client_latitude", "client_longitude", "client_site"))
    if (latitude is None) != (longitude is None):
        sent = "client_latitude" if longitude is None else "client_longitude"
        reader.wrong(sent, "client_latitude and client_longitude must be given together")
    if site is not None and latitude is not None:
        reader.wrong("client_site", "give either client_site or client coordinates, not both")
    if values["max_client_rtt_ms"] is not None and site is None and latitude is None and longitude is None:
        reader.wrong("max_client_rtt_ms", "needs client_site or client_latitude and client_longitude")
