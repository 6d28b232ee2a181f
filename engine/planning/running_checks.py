"""Running work must keep its own constraints on READY nodes, or a plan that leaves it there would break them.

Node rules, then the rules that bind the nodes of a request together, on codes. What is wrong is bad input, named
by the row of the placements.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.domain.errors import InvalidInput, Violation
from engine.domain.table_rules import MAX_LISTED
from engine.planning.fleet_codes import FleetCodes
from solvers.distances import RTT_TOLERANCE_MS
from solvers.planning.problem import NO_SHARE, Problem

Int = NDArray[np.int64]
Flags = NDArray[np.bool_]
Finding = tuple[Flags, str]


def check_running(problem: Problem, fleet: FleetCodes, row: Int, table: str) -> None:
    """Raise InvalidInput for rows on READY nodes that break their request's constraints.

    `row` (rows,): where each row of `problem.running` stands in the table.
    """
    ready = np.flatnonzero(fleet.ready[problem.running.node])
    request, node = problem.running.request[ready], problem.running.node[ready]
    findings = broken_rules(problem, request, node, problem.running.gpus[ready])
    violations = [violation for finding in findings for violation in _listed(row[ready], table, *finding)]
    if violations:
        raise InvalidInput(violations)


def broken_rules(problem: Problem, request: Int, node: Int, gpus: Int) -> Iterator[Finding]:
    """(which rows break it, rule) for every rule of a request, by rows (rows,) that are sorted by request."""
    yield from _node_rules(problem, request, node)
    yield from _cluster_rules(problem, request, node, gpus)


def _node_rules(problem: Problem, request: Int, node: Int) -> Iterator[Finding]:
    gangs, nodes = problem.gangs, problem.nodes
    yield ~problem.model_sets[gangs.model_set[request], nodes.model[node]], "gpu_models"
    places = "its location, exclusions and client RTT"
    yield ~problem.site_sets[gangs.site_set[request], nodes.site[node]], places
    yield ~problem.supplier_sets[gangs.supplier_set[request], nodes.supplier[node]], "its suppliers"
    yield nodes.tier[node] < gangs.tier[request], "min_security_tier"
    wanted = gangs.certifications[request]
    yield (nodes.certifications[node] & wanted) != wanted, "certifications"
    yield nodes.connectivity[node] < gangs.connectivity[request], "min_connectivity_tier"
    yield nodes.interconnect[node] < gangs.interconnect[request], "min_interconnect"
    yield nodes.reliability[node] < gangs.reliability[request], "min_reliability"
    yield gangs.one_fabric[request] & (nodes.fabric[node] < 0), "same_fabric"


def _cluster_rules(problem: Problem, request: Int, node: Int, gpus: Int) -> Iterator[Finding]:
    """`request` is sorted, so the first row of each request stands for it."""
    gangs, nodes = problem.gangs, problem.nodes
    first = np.searchsorted(request, request)
    model, fabric = nodes.model[node], nodes.fabric[node]
    yield gangs.one_model[request] & (model != model[first]), "one GPU model, as it does not allow_mixed_models"
    yield gangs.one_fabric[request] & (fabric != fabric[first]), "same_fabric"
    keys = request * problem.supplier_sets.shape[1] + nodes.supplier[node]
    pairs, pair = np.unique(keys, return_inverse=True)
    given = np.bincount(pair, weights=gpus, minlength=pairs.size)[pair]
    most = gangs.max_gpus_per_supplier[request]
    yield (most != NO_SHARE) & (given > most), "max_supplier_share"
    yield _distant(problem, request, nodes.site[node]), "max_cluster_rtt_ms"


def _distant(problem: Problem, request: Int, site: Int) -> Flags:
    """Rows whose site is too far from another site of the same request."""
    distant = np.zeros(request.size, dtype=bool)
    limits_ms = problem.gangs.max_cluster_rtt_ms
    for gang in np.unique(request[np.isfinite(limits_ms[request])]).tolist():
        rows = slice(*np.searchsorted(request, [gang, gang + 1]))
        sites = np.unique(site[rows])
        rtts_ms = np.stack([problem.distances.from_site(int(one))[sites] for one in sites])
        far = sites[(rtts_ms > limits_ms[gang] + RTT_TOLERANCE_MS).any(axis=1)]
        distant[rows] = np.isin(site[rows], far)
    return distant


def _listed(row: Int, table: str, broken: Flags, constraint: str) -> Iterator[Violation]:
    rows = np.sort(row[broken])
    for number in rows[:MAX_LISTED].tolist():
        yield Violation(
            f"{table} row {number} column node_id", f"runs where its request rules it out: {constraint}"
        )
    if rows.size > MAX_LISTED:
        yield Violation(f"{table} column node_id", f"{rows.size - MAX_LISTED} more rows: {constraint}")
