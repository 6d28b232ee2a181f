"""Faults planted in a plan directory, one a function, for the checker to find.

Each edits the files of a sound directory in place and returns True, or returns False and leaves it alone where it
offers no occasion (no pinned row, nobody with a supplier share, ...). `PLANTED` names for each the code that the
checker must report, whatever else it reports. They work on any directory, whoever wrote it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from engine.planning.certificate_faults import FaultCode
from tests.oracles import NODE_RULES, Case

Row = dict[str, Any]
Plant = Callable[[Path], bool]


def read(directory: Path, name: str) -> list[Row]:
    path = directory / f"{name}.parquet"
    return [dict(row) for row in rows_of(path.read_bytes())] if path.exists() else []


@cache
def rows_of(content: bytes) -> list[Row]:
    """Parsed once, whatever the number of copies that faults are planted in; nobody changes these rows."""
    return pl.read_parquet(BytesIO(content)).to_dicts()


def rewrite(directory: Path, name: str, rows: list[Row]) -> bool:
    path = directory / f"{name}.parquet"
    pl.DataFrame(rows, schema=pl.read_parquet_schema(path)).write_parquet(path)
    return True


def change_report(directory: Path, **fields: Any) -> bool:
    path = directory / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return True


def report(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "report.json").read_text()))


class Desk:
    """The files of a directory by their ids, as plain rows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fleet = {row["node_id"]: row for row in read(directory, "inputs/fleet")}
        self.requests = {row["request_id"]: row for row in read(directory, "inputs/requests")}
        self.rtt = read(directory, "inputs/rtt")
        self.running = read(directory, "inputs/placements")
        self.plan, self.moves = read(directory, "plan"), read(directory, "moves")

    def case(self, row: Row) -> Case:
        return Case(list(self.fleet.values()), self.rtt, {}, self.requests[row["request_id"]])

    def size(self, row: Row) -> int:
        return int(self.requests[row["request_id"]].get("gpus_per_node") or 1)

    def elsewhere(self, row: Row) -> Iterator[Row]:
        """READY nodes that the row's request does not use."""
        used = {other["node_id"] for other in self.plan if other["request_id"] == row["request_id"]}
        return (n for n in self.fleet.values() if n["state"] == "READY" and n["node_id"] not in used)

    def capacity(self, node_id: str) -> int:
        movable = sum(row["gpus"] for row in self.running if row["node_id"] == node_id and row["movable"])
        node = self.fleet[node_id]
        return int(node["gpu_free"]) + movable if node["state"] == "READY" else 0

    def pinned(self, row: Row) -> int:
        return sum(
            other["gpus"]
            for other in self.running
            if (other["request_id"], other["node_id"]) == (row["request_id"], row["node_id"])
            and not other["movable"]
            and self.fleet[row["node_id"]]["state"] == "READY"
        )

    def save_plan(self) -> bool:
        return rewrite(self.directory, "plan", self.plan)

    def move_first(self, moves: Callable[[Row, Row], bool]) -> bool:
        """Put the first row of the plan on the first other node for which `moves(row, node)` holds."""
        for row in self.plan:
            for node in self.elsewhere(row):
                if moves(row, node):
                    row["node_id"] = node["node_id"]
                    return self.save_plan()
        return False


# ------------------------------------------------------------------------------------- answers and gangs


def split_gang(directory: Path) -> bool:
    desk = Desk(directory)
    rows = Counter(row["request_id"] for row in desk.plan)
    for row in desk.plan:
        if row["gpus"] > desk.size(row) or rows[row["request_id"]] > 1:
            row["gpus"] -= desk.size(row)
            desk.plan = [row for row in desk.plan if row["gpus"]]
            return desk.save_plan()
    return False


def split_replica(directory: Path) -> bool:
    desk = Desk(directory)
    for row in desk.plan:
        for node in desk.elsewhere(row) if desk.size(row) > 1 else ():
            row["gpus"] -= 1
            desk.plan.append(row | {"node_id": node["node_id"], "gpus": 1})
            return desk.save_plan()
    return False


def serve_and_refuse(directory: Path) -> bool:
    plan, refusals = read(directory, "plan"), read(directory, "refusals")
    row = {"reason": "SCARCE_CAPACITY", "detail": "and served"}
    return bool(plan) and rewrite(directory, "refusals", [*refusals, row | {"request_id": plan[0]["request_id"]}])


def forget_request(directory: Path) -> bool:
    plan, refusals = read(directory, "plan"), read(directory, "refusals")
    if refusals:
        return rewrite(directory, "refusals", refusals[1:])
    return rewrite(directory, "plan", [row for row in plan if row["request_id"] != plan[0]["request_id"]])


def end_what_must_stay(directory: Path) -> bool:
    """Work with a pinned row and none on a node that went away."""
    desk = Desk(directory)
    away = {row["request_id"] for row in desk.running if desk.fleet[row["node_id"]]["state"] != "READY"}
    for row in desk.running:
        if not row["movable"] and row["request_id"] not in away:
            desk.plan = [other for other in desk.plan if other["request_id"] != row["request_id"]]
            refusal = {"request_id": row["request_id"], "reason": "PREEMPTED", "detail": "ended"}
            return desk.save_plan() and rewrite(directory, "refusals", [*read(directory, "refusals"), refusal])
    return False


def refuse_for_a_false_reason(directory: Path) -> bool:
    """Nothing ran, so nothing was displaced."""
    desk, refusals = Desk(directory), read(directory, "refusals")
    running = {row["request_id"] for row in desk.running}
    for row in refusals:
        if row["request_id"] not in running:
            row["reason"] = "DISPLACED"
            return rewrite(directory, "refusals", refusals)
    return False


def swap_reason(said: str, instead: str) -> Plant:
    """Neither can be true where the other is, but for a limit between sites."""

    def plant(directory: Path) -> bool:
        desk, refusals = Desk(directory), read(directory, "refusals")
        for row in refusals:
            if row["reason"] == said and desk.requests[row["request_id"]]["max_cluster_rtt_ms"] is None:
                row["reason"] = instead
                return rewrite(directory, "refusals", refusals)
        return False

    return plant


def deny_a_place(directory: Path) -> bool:
    """A request that is served could have been, so it cannot be refused for want of any place."""
    desk = Desk(directory)
    running = {row["request_id"] for row in desk.running}
    for row in desk.plan:
        if row["request_id"] not in running and desk.requests[row["request_id"]]["max_cluster_rtt_ms"] is None:
            desk.plan = [other for other in desk.plan if other["request_id"] != row["request_id"]]
            refusal = {"request_id": row["request_id"], "reason": "NO_FEASIBLE_PLACEMENT", "detail": "nowhere"}
            return desk.save_plan() and rewrite(directory, "refusals", [*read(directory, "refusals"), refusal])
    return False


def overlook_what_fits(directory: Path) -> bool:
    """A request that the plan serves at a gain is refused as scarce, and what it had stays free."""
    desk = Desk(directory)
    running = {row["request_id"] for row in desk.running}
    for request_id in dict.fromkeys(row["request_id"] for row in desk.plan):
        request = desk.requests[request_id]
        rows = [row for row in desk.plan if row["request_id"] == request_id]
        asks = sum(row["gpus"] * desk.fleet[row["node_id"]]["ask_micro_usd_per_gpu_hour"] for row in rows)
        gains = asks < request["gpu_count"] * request["max_price_micro_usd_per_gpu_hour"]
        limits = ("max_cluster_rtt_ms", "gpu_milli", "cpu_milli", "memory_mib")
        if gains and request_id not in running and not any(request.get(name) for name in limits):
            desk.plan = [row for row in desk.plan if row["request_id"] != request_id]
            refusal = {"request_id": request_id, "reason": "SCARCE_CAPACITY", "detail": "none left"}
            return desk.save_plan() and rewrite(directory, "refusals", [*read(directory, "refusals"), refusal])
    return False


# -------------------------------------------------------------------------------- capacity and constraints


def overfill_node(directory: Path) -> bool:
    desk = Desk(directory)
    for row in desk.plan[:1]:
        over = desk.capacity(row["node_id"]) + desk.pinned(row) + 1
        row["gpus"] = -(-over // desk.size(row)) * desk.size(row)
    return bool(desk.plan) and desk.save_plan()


def forget_movable_lease(directory: Path) -> bool:
    """Put work where a movable lease stays, as if the lease had left: it just fits without the lease."""
    desk = Desk(directory)
    given = Counter[str]()
    for row in desk.plan:
        given[row["node_id"]] += row["gpus"] - desk.pinned(row)
    leases = {(row["request_id"], row["node_id"]) for row in desk.running if row["movable"]}
    stays = {row["node_id"]: row["gpus"] for row in desk.plan if (row["request_id"], row["node_id"]) in leases}

    def just_fits(row: Row, node: Row) -> bool:
        left = desk.capacity(node["node_id"]) - given[node["node_id"]]
        return node["node_id"] in stays and left < row["gpus"] <= left + stays[node["node_id"]]

    return desk.move_first(just_fits)


def use_unready_node(directory: Path) -> bool:
    desk = Desk(directory)
    away = [node_id for node_id, node in desk.fleet.items() if node["state"] != "READY"]
    for row in desk.plan if away else ():
        row["node_id"] = away[0]
        return desk.save_plan()
    return False


def break_node_rule(name: str) -> Plant:
    def plant(directory: Path) -> bool:
        desk = Desk(directory)
        return desk.move_first(lambda row, node: not NODE_RULES[name](desk.case(row), node))

    return plant


def mix_models(directory: Path) -> bool:
    desk = Desk(directory)
    rows = Counter(row["request_id"] for row in desk.plan)

    def mixes(row: Row, node: Row) -> bool:
        mixed = desk.requests[row["request_id"]].get("allow_mixed_models")
        other = node["gpu_model"] != desk.fleet[row["node_id"]]["gpu_model"]
        return not mixed and other and rows[row["request_id"]] > 1

    return desk.move_first(mixes)


def tear_fabric(directory: Path) -> bool:
    desk = Desk(directory)
    rows = Counter(row["request_id"] for row in desk.plan)

    def tears(row: Row, node: Row) -> bool:
        other = node["fabric_id"] != desk.fleet[row["node_id"]]["fabric_id"]
        alone = rows[row["request_id"]] == 1 and node["fabric_id"] is not None
        return bool(desk.requests[row["request_id"]].get("same_fabric")) and other and not alone

    return desk.move_first(tears)


def part_pair(directory: Path) -> bool:
    """One replica, or one row, goes to a site that is too far from the rest."""
    desk = Desk(directory)
    for row in desk.plan:
        limit_ms = desk.requests[row["request_id"]].get("max_cluster_rtt_ms")
        rows = [other for other in desk.plan if other["request_id"] == row["request_id"]]
        stays = row if row["gpus"] > desk.size(row) else next((other for other in rows if other is not row), None)
        if limit_ms is None or stays is None:
            continue
        site, case = desk.fleet[stays["node_id"]]["site_id"], desk.case(row)
        for node in desk.elsewhere(row):
            if case.site_rtt_ms(site, node["site_id"]) > limit_ms + 2e-6:
                desk.plan.append(row | {"node_id": node["node_id"], "gpus": desk.size(row)})
                row["gpus"] -= desk.size(row)
                desk.plan = [row for row in desk.plan if row["gpus"]]
                return desk.save_plan()
    return False


def exceed_supplier_share(directory: Path) -> bool:
    desk = Desk(directory)
    for row in desk.plan:
        request = desk.requests[row["request_id"]]
        share = request.get("max_supplier_share")
        if share is not None and int(share * request["gpu_count"] + 1e-9) < request["gpu_count"]:
            desk.plan = [other for other in desk.plan if other["request_id"] != row["request_id"]]
            desk.plan.append(row | {"gpus": request["gpu_count"]})
            return desk.save_plan()
    return False


def move_pinned_row(directory: Path) -> bool:
    desk = Desk(directory)
    return desk.move_first(lambda row, node: desk.pinned(row) > 0)


# --------------------------------------------------------------------------------------------------- moves


def miscount_move(directory: Path) -> bool:
    moves = read(directory, "moves")
    for row in moves:
        row["gpus"] += 1
        return rewrite(directory, "moves", moves)
    return False


def move_twice(directory: Path) -> bool:
    """Half of a move now, the other half later."""
    moves = read(directory, "moves")
    for row in moves:
        if row["gpus"] > 1:
            later = row | {"step": moves[-1]["step"] + 1, "gpus": 1}
            row["gpus"] -= 1
            return rewrite(directory, "moves", [*moves, later])
    return False


def overfill_by_order(directory: Path) -> bool:
    """The same moves in the opposite order, if that fills a node beyond its room."""
    desk = Desk(directory)
    served = {row["request_id"] for row in desk.plan}
    room = Counter({node_id: node["gpu_free"] for node_id, node in desk.fleet.items()})
    for row in desk.running:
        room[row["node_id"]] += 0 if row["request_id"] in served else row["gpus"]
    steps = sorted({row["step"] for row in desk.moves})
    turned, overfilled = dict(zip(steps, reversed(steps), strict=True)), False
    for step in reversed(steps):
        rows = [row for row in desk.moves if row["step"] == step]
        for row in rows:
            room[row["from_node_id"]] += row["gpus"]
            room[row["to_node_id"]] -= row["gpus"]
        overfilled |= any(room[row["to_node_id"]] < 0 for row in rows)
    reordered = [row | {"step": turned[row["step"]]} for row in desk.moves]
    return overfilled and rewrite(directory, "moves", reordered)


# --------------------------------------------------------------------------------------- prices and figures


def charge_above_cap(directory: Path) -> bool:
    desk = Desk(directory)
    for row in desk.plan[:1]:
        request = desk.requests[row["request_id"]]
        cap = request["gpu_count"] * request["max_price_micro_usd_per_gpu_hour"]
        row["price_micro_usd_per_gpu_hour"] = cap // row["gpus"] + 1
    return bool(desk.plan) and desk.save_plan()


def charge_above_node(directory: Path) -> bool:
    plan = read(directory, "plan")
    prices = {row["node_id"]: row["shadow_price_micro_usd_per_gpu_hour"] for row in read(directory, "node_prices")}
    for row in plan[:1]:
        ask = Desk(directory).fleet[row["node_id"]]["ask_micro_usd_per_gpu_hour"]
        row["price_micro_usd_per_gpu_hour"] = int(max(ask, prices[row["node_id"]])) + 2
    return bool(plan) and rewrite(directory, "plan", plan)


def charge_too_little(directory: Path) -> bool:
    """A bill that its cap lowers, by one micro-USD too much; the make-whole is made to match."""
    desk, whole = Desk(directory), "make_whole_micro_usd_per_hour"
    prices = {row["node_id"]: row["shadow_price_micro_usd_per_gpu_hour"] for row in read(directory, "node_prices")}
    for row in desk.plan:
        if 0 < row["price_micro_usd_per_gpu_hour"] < prices[row["node_id"]]:
            row["price_micro_usd_per_gpu_hour"] -= 1
            return desk.save_plan() and change_report(directory, **{whole: report(directory)[whole] + row["gpus"]})
    return False


def raise_price_beyond_proof(directory: Path) -> bool:
    """A price so high on one node that the supplier's regret alone passes the bound.

    Nothing runs on the node: work that must stay served there would pay the price, and the bound would hold.
    """
    desk, prices = Desk(directory), read(directory, "node_prices")
    dear = abs(report(directory)["bound_micro_usd_per_hour"]) * 10 + 10**12
    busy = {row["node_id"] for row in desk.running}
    for row in prices:
        if desk.capacity(row["node_id"]) > 0 and row["node_id"] not in busy:
            row["shadow_price_micro_usd_per_gpu_hour"] += dear
            return rewrite(directory, "node_prices", prices)
    return False


def understate_bound(directory: Path) -> bool:
    """Supposes that the bound was D(p) itself."""
    bound = report(directory)["bound_micro_usd_per_hour"]
    return bound > 10**6 and change_report(directory, bound_micro_usd_per_hour=int(bound * (1 - 1e-5)) - 2)


def add_to_report(name: str, amount: float) -> Plant:
    return lambda directory: change_report(directory, **{name: (report(directory).get(name) or 0) + amount})


def put_bound_below_welfare(name: str) -> Plant:
    def plant(directory: Path) -> bool:
        return change_report(directory, **{name: report(directory)["welfare_micro_usd_per_hour"] - 1})

    return plant


def claim_optimum(directory: Path) -> bool:
    bound, welfare = (report(directory)[f"{name}_micro_usd_per_hour"] for name in ("bound", "welfare"))
    unproven = {"stronger_bound_micro_usd_per_hour": None, "stronger_gap": None}
    return bound > welfare + abs(bound) // 1000 + 1 and change_report(directory, status="OPTIMAL", **unproven)


def tamper_with_input(directory: Path) -> bool:
    fleet = read(directory, "inputs/fleet")
    fleet[0]["ask_micro_usd_per_gpu_hour"] += 1
    return rewrite(directory, "inputs/fleet", fleet)


PLANTED: dict[str, tuple[Plant, FaultCode]] = {
    "overfull node": (overfill_node, FaultCode.OVERFULL_NODE),
    "split gang": (split_gang, FaultCode.SPLIT_GANG),
    "split replica": (split_replica, FaultCode.SPLIT_REPLICA),
    "distant pair": (part_pair, FaultCode.DISTANT_PAIR),
    "torn fabric": (tear_fabric, FaultCode.TORN_FABRIC),
    "wrong sum": (add_to_report("welfare_micro_usd_per_hour", 1), FaultCode.WRONG_WELFARE),
    "overfilling move": (overfill_by_order, FaultCode.MOVE_OVERFILLS),
    "movable lease forgotten": (forget_movable_lease, FaultCode.OVERFULL_NODE),
    "price that proves nothing": (raise_price_beyond_proof, FaultCode.BOUND_NOT_PROVEN),
    "bound understated": (understate_bound, FaultCode.BOUND_NOT_PROVEN),
    "bound below welfare": (
        put_bound_below_welfare("bound_micro_usd_per_hour"),
        FaultCode.BOUND_BELOW_WELFARE,
    ),
    "stronger bound below welfare": (
        put_bound_below_welfare("stronger_bound_micro_usd_per_hour"),
        FaultCode.BOUND_BELOW_WELFARE,
    ),
    "pinned row moved": (move_pinned_row, FaultCode.PINNED_MOVED),
    "supplier share": (exceed_supplier_share, FaultCode.SUPPLIER_SHARE),
    "mixed models": (mix_models, FaultCode.MIXED_MODELS),
    "node not ready": (use_unready_node, FaultCode.NODE_NOT_READY),
    "refused and served": (serve_and_refuse, FaultCode.ANSWERED_TWICE),
    "missing request": (forget_request, FaultCode.NOT_ANSWERED),
    "work ended": (end_what_must_stay, FaultCode.MUST_STAY_SERVED),
    "false reason": (refuse_for_a_false_reason, FaultCode.WRONG_REASON),
    "free room overlooked": (overlook_what_fits, FaultCode.WRONG_REASON),
    "place denied": (deny_a_place, FaultCode.WRONG_REASON),
    "dear called scarce": (swap_reason("PRICE_TOO_LOW", "SCARCE_CAPACITY"), FaultCode.WRONG_REASON),
    "scarce called dear": (swap_reason("SCARCE_CAPACITY", "PRICE_TOO_LOW"), FaultCode.WRONG_REASON),
    "impossible called dear": (swap_reason("NO_FEASIBLE_PLACEMENT", "PRICE_TOO_LOW"), FaultCode.WRONG_REASON),
    "displaced called scarce": (swap_reason("DISPLACED", "SCARCE_CAPACITY"), FaultCode.WRONG_REASON),
    "buyer above cap": (charge_above_cap, FaultCode.BUYER_ABOVE_CAP),
    "price above node": (charge_above_node, FaultCode.WRONG_PRICE),
    "price below the cap's": (charge_too_little, FaultCode.WRONG_PRICE),
    "tampered input": (tamper_with_input, FaultCode.INPUT_CHANGED),
    "miscounted move": (miscount_move, FaultCode.WRONG_MOVES),
    "moved twice": (move_twice, FaultCode.MOVED_TWICE),
    "wrong gap": (add_to_report("gap", 0.125), FaultCode.WRONG_GAP),
    "wrong count": (add_to_report("requests_served", 1), FaultCode.WRONG_COUNT),
    "wrong make-whole": (add_to_report("make_whole_micro_usd_per_hour", 1), FaultCode.WRONG_MAKE_WHOLE),
    "false optimum": (claim_optimum, FaultCode.WRONG_STATUS),
    "wrong tier": (break_node_rule("security_tier"), FaultCode.SECURITY_TIER),
    "wrong model": (break_node_rule("gpu_models"), FaultCode.WRONG_MODEL),
    "wrong place": (break_node_rule("location"), FaultCode.WRONG_LOCATION),
    "excluded site": (break_node_rule("excluded_location"), FaultCode.EXCLUDED_LOCATION),
    "far from the client": (break_node_rule("client_rtt"), FaultCode.FAR_FROM_CLIENT),
    "certification missing": (break_node_rule("certifications"), FaultCode.CERTIFICATIONS),
    "poor connectivity": (break_node_rule("connectivity"), FaultCode.CONNECTIVITY_TIER),
    "poor interconnect": (break_node_rule("interconnect"), FaultCode.INTERCONNECT),
    "unreliable": (break_node_rule("reliability"), FaultCode.RELIABILITY),
    "wrong supplier": (break_node_rule("suppliers"), FaultCode.WRONG_SUPPLIER),
}
