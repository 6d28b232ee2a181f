"""From the tables of a planning job to the arrays of a joint problem, and the names to come back by.

Whole columns at a time; only distinct combinations of constraints are looked at one by one. Names that no node
bears match nothing: a queue may wait for supply that does not exist yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.domain.cluster_request import SHARE_TOLERANCE
from engine.domain.request_table import milli_of_part
from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier
from engine.planning.codes import distinct, distinct_sets, is_given, named
from engine.planning.fleet_codes import FleetCodes, certification_masks, encode_fleet, grades
from engine.planning.inputs import Inputs
from engine.planning.running_checks import check_running
from engine.planning.running_work import RunningWork, encode_running
from engine.planning.site_sets import site_sets
from solvers.planning.problem import NO_SHARE, Gangs, Needs, Problem

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A problem and what its numbers stand for: `request_ids` (requests,), `node_ids` (nodes,), `fleet`.

    `max_price_micro_usd` (requests,): per GPU-hour, without any bonus. `displaced` (requests,).
    """

    problem: Problem
    request_ids: pl.Series
    node_ids: pl.Series
    fleet: FleetCodes
    max_price_micro_usd: Int
    displaced: Flags


def encode(inputs: Inputs, move_cost_micro_usd: int, displaced_bonus_micro_usd: int) -> Encoded:
    """The problem of checked inputs. InvalidInput names running work that breaks its own constraints."""
    requests = inputs.requests
    fleet = encode_fleet(inputs.fleet, inputs.rtt)
    needs = needs_of(requests)
    running = encode_running(inputs, fleet.ready, needs, _replica(requests))
    model_sets, model_set = _model_sets(requests, fleet)
    supplier_sets, supplier_set = _supplier_sets(requests, fleet)
    allowed_sites, site_set = site_sets(requests, fleet, inputs.rtt)
    max_price = _integers(requests["max_price_micro_usd_per_gpu_hour"])
    problem = Problem(
        nodes=fleet.nodes,
        capacity=running.capacity,
        gangs=_gangs(
            requests,
            fleet,
            running,
            value_micro_usd=max_price + displaced_bonus_micro_usd * running.displaced,
            model_set=model_set,
            site_set=site_set,
            supplier_set=supplier_set,
            needs=needs,
        ),
        model_sets=model_sets,
        site_sets=allowed_sites,
        supplier_sets=supplier_sets,
        distances=fleet.distances,
        running=running.rows,
        move_cost_micro_usd=move_cost_micro_usd,
        spare=running.spare,
    )
    check_running(problem, fleet, running.row, inputs.placements_table)
    return Encoded(
        problem=problem,
        request_ids=requests["request_id"],
        node_ids=inputs.fleet["node_id"],
        fleet=fleet,
        max_price_micro_usd=max_price,
        displaced=running.displaced,
    )


def needs_of(requests: pl.DataFrame) -> Needs | None:
    """What requests want beside whole GPUs; None if none of them wants anything."""
    needs = requests.select(
        pl.col("cpu_milli").fill_null(0), pl.col("memory_mib").fill_null(0), gpu_milli=milli_of_part().fill_null(0)
    )
    columns = [_integers(needs[name]) for name in ("cpu_milli", "memory_mib", "gpu_milli")]
    return Needs(*columns) if any(column.any() for column in columns) else None


def _replica(requests: pl.DataFrame) -> Int:
    return _integers(requests["gpus_per_node"].fill_null(1))


def _model_sets(requests: pl.DataFrame, fleet: FleetCodes) -> tuple[Flags, Int]:
    lists, place = distinct(requests, ["gpu_models"])
    wanted = lists["gpu_models"]
    sets, order = distinct_sets(named(wanted, fleet.models) | ~is_given(wanted)[:, None])
    return sets, order[place]


def _supplier_sets(requests: pl.DataFrame, fleet: FleetCodes) -> tuple[Flags, Int]:
    lists, place = distinct(requests, ["allowed_suppliers", "excluded_suppliers"])
    allowed = lists["allowed_suppliers"]
    accepted = named(allowed, fleet.suppliers) | ~is_given(allowed)[:, None]
    sets, order = distinct_sets(accepted & ~named(lists["excluded_suppliers"], fleet.suppliers))
    return sets, order[place]


def _gangs(
    requests: pl.DataFrame,
    fleet: FleetCodes,
    running: RunningWork,
    *,
    value_micro_usd: Int,
    model_set: Int,
    site_set: Int,
    supplier_set: Int,
    needs: Needs | None,
) -> Gangs:
    gpus, per_replica = _integers(requests["gpu_count"]), _replica(requests)
    return Gangs(
        replicas=gpus // per_replica,
        gpus_per_replica=per_replica,
        value_micro_usd=value_micro_usd,
        model_set=model_set,
        site_set=site_set,
        supplier_set=supplier_set,
        one_model=~_flags(requests["allow_mixed_models"]),
        tier=grades(requests["min_security_tier"], SecurityTier),
        certifications=certification_masks(requests, fleet.certifications),
        connectivity=grades(requests["min_connectivity_tier"], ConnectivityTier),
        interconnect=grades(requests["min_interconnect"], Interconnect),
        one_fabric=_flags(requests["same_fabric"]),
        reliability=_floats(requests["min_reliability"], 0.0),
        max_gpus_per_supplier=_max_gpus_per_supplier(gpus, requests["max_supplier_share"]),
        max_cluster_rtt_ms=_floats(requests["max_cluster_rtt_ms"], np.inf),
        must_serve=running.must_serve,
        needs=needs,
    )


def _max_gpus_per_supplier(gpus: Int, share: pl.Series) -> Int:
    most = np.floor(_floats(share, 1.0) * gpus + SHARE_TOLERANCE).astype(np.int64)
    return np.where(share.is_null().to_numpy(), NO_SHARE, most)


def _integers(column: pl.Series) -> Int:
    return column.to_numpy().astype(np.int64)


def _floats(column: pl.Series, absent: float) -> NDArray[np.float64]:
    return column.fill_null(absent).to_numpy().astype(np.float64)


def _flags(column: pl.Series) -> Flags:
    return column.fill_null(False).to_numpy().astype(bool)
