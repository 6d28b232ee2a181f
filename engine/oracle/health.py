"""How far a market's price can be trusted, as an answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from engine.oracle.parameters import OracleParameters
from engine.oracle.references import Fault, Reference


class Alarm(StrEnum):
    """Something to look at. Alarms freeze nothing: else whoever can raise one could stop a price."""

    SOURCE_DEVIATES = "SOURCE_DEVIATES"
    """A reference source is far from the median, which ignores it."""
    PRICE_DEVIATES = "PRICE_DEVIATES"
    """The clearing price is far above the reference."""
    DEMAND_CONCENTRATED = "DEMAND_CONCENTRATED"
    """One tenant is most of the demand."""
    SUPPLY_CONCENTRATED = "SUPPLY_CONCENTRATED"
    """One owner is most of the supply."""


@dataclass(frozen=True, slots=True)
class Health:
    """The health answer of one market: the reference median it is bounded by and what that rests on.

    An unhealthy price is frozen inside its bounds, and `failure_reasons` say why.
    """

    value_micro_usd_per_gpu_hour: int | None
    sources: tuple[str, ...]
    age_us: int | None
    deviation: float | None
    is_healthy: bool
    failure_reasons: tuple[Fault, ...]
    alarms: tuple[Alarm, ...]


def health_of(
    reference: Reference,
    supply_age_us: int,
    clearing_micro_usd_per_gpu_hour: int,
    largest_tenant_share: float,
    largest_owner_share: float,
    parameters: OracleParameters,
) -> Health:
    """Judge one market. A view from the future is as bad as a stale one."""
    stale = not 0 <= supply_age_us <= parameters.supply_max_age_us
    faults = reference.faults + ((Fault.SUPPLY_STALE,) if stale else ())
    value, limit = reference.value_micro_usd_per_gpu_hour, parameters.concentration_limit
    too_dear = value is not None and clearing_micro_usd_per_gpu_hour > value * (1 + parameters.deviation_limit)
    raised = (
        (Alarm.SOURCE_DEVIATES, bool(reference.deviating)),
        (Alarm.PRICE_DEVIATES, too_dear),
        (Alarm.DEMAND_CONCENTRATED, largest_tenant_share > limit),
        (Alarm.SUPPLY_CONCENTRATED, largest_owner_share > limit),
    )
    return Health(
        value_micro_usd_per_gpu_hour=value,
        sources=reference.sources,
        age_us=reference.age_us,
        deviation=reference.deviation,
        is_healthy=not faults,
        failure_reasons=faults,
        alarms=tuple(alarm for alarm, on in raised if on),
    )
