"""An option for every field of a cluster request, and the request they or a file make."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.option_groups import OptionGroup

SECONDS_PER_HOUR = 3_600
SINGULARS = {
    "gpu-models": "gpu-model",
    "regions": "region",
    "countries": "country",
    "sites": "site",
    "excluded-regions": "excluded-region",
    "excluded-countries": "excluded-country",
    "excluded-sites": "excluded-site",
    "certifications": "certification",
    "allowed-suppliers": "allowed-supplier",
    "excluded-suppliers": "excluded-supplier",
}
"""An option is given once per entry, so it is named after one; the contract's plural is understood too."""


@dataclass(frozen=True, slots=True)
class AskedCluster:
    """What the command line says of the wanted cluster: a file or options, unchecked."""

    options: dict[str, Any]
    """Given options only, by contract field; `hours` beside them."""
    request_file: Path | None

    @property
    def is_empty(self) -> bool:
        """Nothing was said."""
        return not self.options and self.request_file is None

    def fields(self) -> dict[str, Any]:
        """Raw fields by contract name. InvalidInput for a broken file, or for a file and options together."""
        from engine.cli.request_file import read_request_file
        from engine.domain.errors import InvalidInput, Violation

        if self.request_file is None:
            return _with_duration(self.options)
        if self.options:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in self.options)
            raise InvalidInput([Violation("--request", f"stands alone, or leave it out: also given: {given}")])
        return read_request_file(self.request_file)

    @property
    def source(self) -> str:
        """What violations name before the field."""
        return f"{self.request_file.name} field " if self.request_file else ""


def seconds_of(hours: float | None, duration_s: int | None) -> int:
    """How long, from one of two options. InvalidInput unless exactly one is given."""
    from engine.domain.errors import InvalidInput, Violation

    given = {"hours": hours} | ({} if duration_s is None else {"duration_s": duration_s})
    raw = _with_duration(given)
    if "duration_s" not in raw:
        raise InvalidInput([Violation("hours", "say how long, by this or by duration_s")])
    return int(raw["duration_s"])


def _with_duration(options: dict[str, Any]) -> dict[str, Any]:
    from engine.domain.errors import InvalidInput, Violation

    raw = dict(options)
    hours = raw.pop("hours", None)
    if hours is None:
        return raw
    if "duration_s" in raw:
        raise InvalidInput([Violation("hours", "says the same as duration_s: give one of them")])
    if not math.isfinite(hours):
        raise InvalidInput([Violation("hours", f"must be a number, got {hours}")])
    return raw | {"duration_s": round(hours * SECONDS_PER_HOUR)}


def _option(kind: Any, text: str, panel: str, *names: str) -> tuple[Any, None]:
    return Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=panel)], None


def _one(kind: Any, text: str, panel: str = "Cluster") -> tuple[Any, None]:
    return _option(kind, text, panel)


def _flag(field: str, text: str, panel: str = "Cluster") -> tuple[Any, None]:
    return _option(bool, text, panel, f"--{field}")


def _many(field: str, text: str, panel: str = "Cluster") -> tuple[Any, None]:
    return _option(list[str], f"{text} Repeatable.", panel, f"--{SINGULARS[field]}")


def option_name(given: str) -> str:
    """The name an option is declared by: `gpu-models`, as the contract has the field, is `gpu-model`."""
    dashed = given.replace("_", "-")
    return SINGULARS.get(dashed, dashed)


WHERE, TRUST, NETWORK, TERMS = "Location and latency", "Trust and suppliers", "Network", "Terms"

REQUEST_OPTIONS: dict[str, tuple[Any, None]] = {
    "request_id": _one(str, "Your own name for this request."),
    "gpu_models": _many("gpu-models", "Acceptable GPU model."),
    "allow_mixed_models": _flag("allow-mixed-models", "One cluster may mix the acceptable models."),
    "gpu_count": _one(int, "Number of GPUs."),
    "gpus_per_node": _one(int, "GPUs of one replica, all on one node; divides the count."),
    "regions": _many("regions", "Wanted region.", WHERE),
    "countries": _many("countries", "Wanted country, ISO 3166-1 alpha-2.", WHERE),
    "sites": _many("sites", "Wanted site.", WHERE),
    "excluded_regions": _many("excluded-regions", "Region not to use.", WHERE),
    "excluded_countries": _many("excluded-countries", "Country not to use.", WHERE),
    "excluded_sites": _many("excluded-sites", "Site not to use.", WHERE),
    "client_latitude": _one(float, "Latitude of the client, degrees.", WHERE),
    "client_longitude": _one(float, "Longitude of the client, degrees.", WHERE),
    "client_site": _one(str, "The client stands at this site.", WHERE),
    "max_client_rtt_ms": _one(float, "Largest round trip from the client to every node.", WHERE),
    "max_cluster_rtt_ms": _one(float, "Largest round trip between every pair of nodes.", WHERE),
    "min_security_tier": _one(str, "COMMUNITY, VERIFIED, SECURE or CONFIDENTIAL.", TRUST),
    "certifications": _many("certifications", "Needed on every node, e.g. SOC2.", TRUST),
    "min_connectivity_tier": _one(str, "LOW, MEDIUM, HIGH or ULTRA.", NETWORK),
    "min_interconnect": _one(str, "ETHERNET, ROCE or INFINIBAND.", NETWORK),
    "same_fabric": _flag("same-fabric", "All nodes on one high-speed network.", NETWORK),
    "min_reliability": _one(float, "Lowest node reliability, 0 to 1.", TRUST),
    "allowed_suppliers": _many("allowed-suppliers", "Use only this supplier.", TRUST),
    "excluded_suppliers": _many("excluded-suppliers", "Supplier not to use.", TRUST),
    "max_supplier_share": _one(float, "No supplier gives more than this share, above 0 to 1.", TRUST),
    "duration_s": _one(int, "How long, in seconds; an hour if absent.", TERMS),
    "max_price_micro_usd_per_gpu_hour": _one(int, "Cap on the average price, micro-USD.", TERMS),
    "interruptible": _flag("interruptible", "Interruption is accepted.", TERMS),
    "all_matching": _flag("all-matching", "As many GPUs as the budget pays for.", TERMS),
    "budget_micro_usd": _one(int, "Most that the whole cluster may cost, with --all-matching.", TERMS),
    "gpu_milli": _one(int, "A part of one GPU in thousandths, 1 to 1,000; with --gpu-count 1."),
    "cpu_milli": _one(int, "CPU of each replica, thousandths of a core."),
    "memory_mib": _one(int, "Memory of each replica, MiB."),
}
"""By contract field, in its order."""

_EXTRA_OPTIONS: dict[str, tuple[Any, None]] = {
    "hours": _one(float, "How long, in hours, instead of --duration-s.", TERMS),
    "request": _one(Path, "JSON file with the contract's field names, instead of options."),
}


def _asked_cluster(given: dict[str, Any]) -> AskedCluster:
    request_file = given.pop("request")
    said = {name: value for name, value in given.items() if value is not None and value != []}
    return AskedCluster(said, request_file)


asks_cluster = OptionGroup(parameter="asked", options=REQUEST_OPTIONS | _EXTRA_OPTIONS, build=_asked_cluster)
