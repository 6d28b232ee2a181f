"""Plans over gRPC: what RunPlan finds, GetPlan shows and ApplyPlan commits (laws 1 to 5, 8, 9 and 10)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from walras.v1 import plan_service_pb2 as pb

from tests.service.loopback import TIMEOUT_S, Client, node, refusal_of, refused
from tests.service.planners import (
    Greedy,
    Planner,
    PlanningLoopback,
    assert_replays,
    error_of,
    outcomes,
    placed,
    wanted,
)

HOUR_US = 3_600_000_000
ASK = 2_000_000


def fleet() -> list[dict[str, Any]]:
    """24 H100 at three prices."""
    return [node(f"n{i}", ask_micro_usd_per_gpu_hour=ASK + 100_000 * i) for i in range(3)]


@pytest.fixture
def greedy() -> Greedy:
    return Greedy()


@pytest.fixture
def loopback(tmp_path: Path, greedy: Greedy) -> Iterator[PlanningLoopback]:
    """An engine of the test's own with 24 GPUs, whose plans are greedy."""
    loopback = PlanningLoopback(tmp_path / "engine", greedy.solver())
    loopback.client.load(fleet())
    try:
        yield loopback
    finally:
        loopback.close()


@pytest.fixture
def client(loopback: PlanningLoopback) -> Client:
    return loopback.client


@pytest.fixture
def planner(client: Client) -> Planner:
    return Planner(client)


def standing(client: Client, name: str) -> dict[str, int]:
    """GPUs of a lease by node."""
    placement = client.lease(name).placement
    return dict(zip(placement.node_ids, placement.gpus, strict=True))


def test_a_queue_becomes_leases(loopback: PlanningLoopback, greedy: Greedy, planner: Planner) -> None:
    """Laws 1 to 3 and 10: progress, a plan and its report, leases just as planned, a journal that replays."""
    greedy.shadow_micro_usd = 2_099_999.5
    steps = planner.run(wanted("a"), wanted("b", 12), wanted("c", 8), work_limit=3, seed=7)
    assert [step.phase for step in steps] == ["first", "second", "done"]
    assert not any(step.plan_id for step in steps[:-1])
    assert not steps[0].HasField("bound_micro_usd_per_hour")
    plan = planner.get(steps[-1].name)
    rows = placed(plan.placements)
    assert rows == {"a": {"n0": 8}, "b": {"n1": 8, "n2": 4}}
    assert {(each.request_id, each.reason) for each in plan.refusals} == {("c", "SCARCE_CAPACITY")}
    report = plan.report
    assert (report.requests, report.requests_served, report.gpus_placed) == (3, 2, 20)
    assert (report.parameters.work_limit, report.parameters.seed) == (3, 7)
    assert report.welfare_micro_usd_per_hour == 20 * 4_000_000 - 8 * ASK - 8 * (ASK + 100_000) - 4 * (
        ASK + 200_000
    )
    assert report.status == "FEASIBLE"
    assert report.state_version == planner.client.stats().state_version
    applied = planner.apply(plan.name)
    assert (applied.leases_started, applied.changes_refused) == (2, 0)
    for each in applied.outcomes:
        lease = planner.client.lease(f"leases/{each.lease_id}")
        assert (lease.request_id, lease.plan_id) == (each.request_id, plan.plan_id)
        assert not lease.HasField("certificate")
        assert standing(planner.client, lease.name) == rows[each.request_id]
        prices = dict(zip(lease.placement.node_ids, lease.placement.prices_micro_usd_per_gpu_hour, strict=True))
        assert prices == {
            row.node_id: max(2_100_000, ASK + 100_000 * int(row.node_id[1:]))
            for row in plan.placements
            if row.request_id == each.request_id
        }
        rate = sum(gpus * prices[name] for name, gpus in rows[each.request_id].items())
        assert lease.price.rate_micro_usd_per_hour == lease.price.total_micro_usd == rate
        assert sum(line.amount_micro_usd for line in lease.price.lines) == rate
        assert lease.end_time_us == loopback.clock.now_us + HOUR_US
    assert {line.set_by for line in lease.price.lines} == {"ASK"}
    assert_replays(loopback)


def test_nobody_pays_more_than_it_bids(greedy: Greedy, planner: Planner) -> None:
    """Law 7: a shadow price above the bid is lowered to it, never below asks; the plan says by how much."""
    greedy.shadow_micro_usd = 9_000_000.0
    name = planner.plan(wanted("a", 12, max_price_micro_usd_per_gpu_hour=2_500_000))
    plan = planner.get(name)
    bill = sum(row.gpus * row.price_micro_usd_per_gpu_hour for row in plan.placements)
    assert 12 * 2_500_000 - 12 <= bill <= 12 * 2_500_000
    assert all(row.price_micro_usd_per_gpu_hour >= ASK for row in plan.placements)
    assert plan.report.make_whole_micro_usd_per_hour == 12 * 9_000_000 - bill
    (outcome,) = planner.apply(name).outcomes
    assert {line.set_by for line in planner.client.lease(f"leases/{outcome.lease_id}").price.lines} == {"PLAN"}


def test_what_was_taken_meanwhile_is_reported(loopback: PlanningLoopback, planner: Planner) -> None:
    """Law 2: a gang whose GPUs went to a deployment is left out whole; the others are leased."""
    name = planner.plan(wanted("a"), wanted("b"), wanted("c"))
    taken = planner.client.as_tenant("bob").deploy(gpu_count=1)
    assert list(taken.placement.node_ids) == ["n0"]
    applied = planner.apply(name)
    assert outcomes(applied) == {"a": ("START", "CAPACITY_GONE"), "b": ("START", ""), "c": ("START", "")}
    assert applied.changes_refused == 1
    assert applied.outcomes[0].detail == "nodes/n0 has 7 unused GPUs of the 8 planned"
    assert planner.client.stats().gpus_leased == 17
    assert_replays(loopback)


@pytest.mark.parametrize("state", ["DOWN", "DRAINING"])
def test_a_node_that_went_away_meanwhile(planner: Planner, state: str) -> None:
    """Law 3: only READY nodes take new work."""
    name = planner.plan(wanted("a"), wanted("b", 16))
    planner.client.set_state("nodes/n2", state)
    applied = planner.apply(name)
    assert outcomes(applied) == {"a": ("START", ""), "b": ("START", "NODE_NOT_READY")}
    assert applied.outcomes[1].detail == "nodes/n2 is not READY"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ask_micro_usd_per_gpu_hour": ASK + 1}, "ASK_ROSE"),
        ({"ask_micro_usd_per_gpu_hour": ASK - 1}, ""),
        ({"security_tier": "COMMUNITY"}, "NODE_CHANGED"),
        ({"gpu_model": "A100"}, "NODE_CHANGED"),
        ({"gpu_free": 7}, "CAPACITY_GONE"),
        ({"reliability": 0.5}, ""),
    ],
)
def test_a_node_that_was_loaded_anew_meanwhile(planner: Planner, change: dict[str, Any], reason: str) -> None:
    """Law 3: every constraint, and no higher ask, holds at commit time."""
    name = planner.plan(wanted("a", min_security_tier="SECURITY_TIER_SECURE"))
    planner.client.load([{**fleet()[0], **change}])
    assert outcomes(planner.apply(name)) == {"a": ("START", reason)}


def test_applied_twice(loopback: PlanningLoopback, planner: Planner) -> None:
    """Law 4: the same key gives the same answer and no second effect; any other call is told it was applied."""
    name = planner.plan(wanted("a", 4))
    first = planner.apply(name, "k")
    version = planner.client.stats().state_version
    planner.client.release(f"leases/{first.outcomes[0].lease_id}")
    assert planner.apply(name, "k") == first
    for key in ("", "other"):
        again = refused(planner.apply, name, key)
        assert (again.code, again.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PLAN_APPLIED")
    other = planner.plan(wanted("b", 4))
    reused = refused(planner.apply, other, "k")
    assert (reused.code, reused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")
    assert planner.client.stats().state_version == version + 1
    loopback.clock.advance_s(3_601)
    assert planner.apply(name, "k") == first


def test_a_key_outlives_the_plan(loopback: PlanningLoopback, planner: Planner, tmp_path: Path) -> None:
    """Law 4: after a restart the plan is gone, its answer is not."""
    name = planner.plan(wanted("a", 4))
    first = planner.apply(name, "k")
    loopback.channel.close()
    loopback.run(loopback.server.drain(0))
    loopback.engine.close()
    second = PlanningLoopback(loopback.data_dir, Greedy().solver(), loopback.clock)
    try:
        planner = Planner(second.client)
        assert planner.apply(name, "k") == first
        assert refused(planner.apply, name).code is grpc.StatusCode.NOT_FOUND
        assert refused(planner.page, name).code is grpc.StatusCode.NOT_FOUND
    finally:
        second.close()


def test_a_tenant_sees_only_its_own_plans(planner: Planner) -> None:
    """Law 8: another tenant's plan answers exactly like one that never was."""
    name, bob = planner.plan(wanted("a")), Planner(planner.client.as_tenant("bob"))
    version = planner.client.stats().state_version
    for call in (bob.page, bob.apply):
        theirs, missing = refused(call, name), refused(call, "plans/p-1-1")
        assert theirs.code is missing.code is grpc.StatusCode.NOT_FOUND
        assert theirs.message.replace(name, "") == missing.message.replace("plans/p-1-1", "")
    assert planner.client.stats().state_version == version


def test_leases_of_others_are_not_part_of_a_plan(planner: Planner) -> None:
    """Law 8: their GPUs are not free, no more is said."""
    planner.client.as_tenant("bob").deploy(request_id="secret", gpu_count=16)
    plan = planner.get(planner.plan(wanted("a"), wanted("b"), movable_leases=True))
    assert placed(plan.placements) == {"a": {"n2": 8}}
    assert plan.report.requests == 2


def test_plans_are_kept_within_bounds(loopback: PlanningLoopback, planner: Planner) -> None:
    """Law 9: the latest four of a tenant, for an hour; those of another tenant do not count."""
    bobs = Planner(planner.client.as_tenant("bob"))
    theirs = bobs.plan(wanted("a"))
    names = [planner.plan(wanted("a")) for _ in range(5)]
    assert len(set(names)) == 5
    assert refused(planner.page, names[0]).code is grpc.StatusCode.NOT_FOUND
    loopback.clock.advance_s(3_599)
    for name in names[1:]:
        assert planner.page(name).name == name
    assert bobs.page(theirs).name == theirs
    loopback.clock.advance_s(1)
    assert refused(planner.page, names[-1]).code is grpc.StatusCode.NOT_FOUND


def test_a_queue_in_many_messages(planner: Planner) -> None:
    """Law 9: a queue too large for one message comes in several; an empty one is a plan of nothing."""
    chunks = [pb.RunPlanRequest(requests=[wanted(f"r{i}", 1)]) for i in range(30)]
    plan = planner.get(list(planner.start(pb.RunPlanRequest(options=pb.PlanOptions(seed=1)), *chunks))[-1].name)
    assert (plan.report.requests, plan.report.requests_served, len(plan.refusals)) == (30, 24, 6)
    nothing = planner.plan()
    assert planner.get(nothing).report.status == "OPTIMAL"
    assert not planner.apply(nothing).outcomes


def test_every_violation_is_listed(planner: Planner) -> None:
    """Law 9: of all requests by index, of the options, and of names that nobody knows."""
    nameless = wanted("", -1)
    nameless.ClearField("duration_s")
    bare = wanted("c")
    bare.ClearField("max_price_micro_usd_per_gpu_hour")
    budget = wanted("d", all_matching=True, budget_micro_usd=1, min_reliability=2.0)
    refusal = refusal_of(
        error_of(
            planner.start(
                pb.RunPlanRequest(requests=[nameless, wanted("b"), bare], options=pb.PlanOptions()),
                pb.RunPlanRequest(
                    requests=[wanted("b"), wanted("e", gpus_per_node=3), budget],
                    options=pb.PlanOptions(
                        time_limit_s=float("nan"), seed=-1, move_cost_micro_usd=-1, work_limit=-1
                    ),
                ),
            )
        )
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert set(refusal.fields) == {
        "requests[0].request_id",
        "requests[0].duration_s",
        "requests[0].gpu_count",
        "requests[1].request_id",
        "requests[2].max_price_micro_usd_per_gpu_hour",
        "requests[3].request_id",
        "requests[4].gpus_per_node",
        "requests[5].all_matching",
        "requests[5].min_reliability",
        "options",
        "options.time_limit_s",
        "options.seed",
        "options.move_cost_micro_usd",
        "options.work_limit",
    }
    unknown = refused(planner.run, wanted("a"), wanted("b", gpu_models=["H100", "Z9"]), wanted("c", regions=["x"]))
    assert unknown.fields == ("requests[1].gpu_models[1]", "requests[2].regions[0]")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"time_limit_s": 0.0}, "options.time_limit_s"),
        ({"time_limit_s": 24.001}, "options.time_limit_s"),
        ({"displaced_bonus_micro_usd": 2**62}, "options.displaced_bonus_micro_usd"),
        ({"work_limit": 1_000_001}, "options.work_limit"),
    ],
)
def test_bad_options(planner: Planner, options: dict[str, Any], field: str) -> None:
    """Law 9: each option has its bounds."""
    assert refused(planner.run, wanted("a"), **options).fields == (field,)


def test_too_long_a_queue(planner: Planner) -> None:
    """Law 9: more than 10,000 requests are refused as they come; options are given once."""
    many = [pb.RunPlanRequest(requests=[wanted(f"{i}-{j}", 1) for j in range(500)]) for i in range(21)]
    assert refusal_of(error_of(planner.start(*many))).fields == ("requests",)
    twice = pb.RunPlanRequest(options=pb.PlanOptions())
    assert refusal_of(error_of(planner.start(twice, twice))).fields == ("options",)


def test_bytes_that_are_no_message(client: Client) -> None:
    """Law 9: as in every other call."""
    method = client.channel.stream_stream("/walras.v1.PlanService/RunPlan", bytes, bytes)
    stream = method(iter([b"\x0a\xff\x01abc"]), metadata=client.metadata, timeout=TIMEOUT_S)
    assert refusal_of(error_of(stream)).fields == ("request",)
    for token in ("x", "LTE=", "MS41"):
        assert refused(Planner(client).page, "plans/p", page_token=token).fields == ("page_token",)
    assert refused(Planner(client).page, "leases/p").fields == ("name",)


class Gate:
    """Holds a solver between two reports until it is let go."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(TIMEOUT_S)


def test_one_plan_at_a_time(greedy: Greedy, planner: Planner) -> None:
    """Law 9: a second run gets RESOURCE_EXHAUSTED and when to come back; other calls go on meanwhile."""
    greedy.between = gate = Gate()
    first = planner.start(pb.RunPlanRequest(requests=[wanted("a")]))
    assert next(first).phase == "first"
    busy = refused(planner.run, wanted("b"))
    assert (busy.code, busy.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert planner.client.deploy(gpu_count=1).lease_id
    gate.open.set()
    assert list(first)[-1].plan_id
    assert planner.run(wanted("b"))[-1].plan_id


def test_a_cancelled_run_makes_room(greedy: Greedy, planner: Planner) -> None:
    """Law 9: the search ends at its next report, and its place is free again; no plan is kept."""
    greedy.between = gate = Gate()
    first = planner.start(pb.RunPlanRequest(requests=[wanted("a")]))
    assert gate.reached.wait(TIMEOUT_S)
    first.cancel()
    assert refused(planner.run, wanted("b")).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    gate.open.set()
    while (error := error_of(planner.start(pb.RunPlanRequest(requests=[wanted("b")])))) is not None:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert planner.client.stats().leases_active == 0


def test_a_failing_solver_tells_nothing(greedy: Greedy, planner: Planner) -> None:
    """Law 9: INTERNAL without details, and the next plan runs."""

    def fail() -> None:
        raise ZeroDivisionError("secret")

    greedy.between = fail
    failed = refused(planner.run, wanted("a"))
    assert failed.code is grpc.StatusCode.INTERNAL
    assert "secret" not in failed.message
    greedy.between = None
    assert planner.plan(wanted("a"))


def test_a_moved_lease_keeps_its_terms(loopback: PlanningLoopback, planner: Planner) -> None:
    """Law 5: id, tenant, price and end stay; only the place changes, and it is given back at the end."""
    client = planner.client
    first = client.deploy(request_id="x", gpu_count=8)
    second = client.deploy(request_id="y", gpu_count=8, duration_s=7_200)
    client.release(first.name)
    before = client.lease(second.name)
    name = planner.plan(wanted("new"), movable_leases=True, move_cost_micro_usd=5)
    plan = planner.get(name)
    moves = [(move.step, move.lease_id, move.from_node_id, move.to_node_id, move.gpus) for move in plan.moves]
    assert moves == [(0, second.lease_id, "n1", "n0", 8)]
    assert outcomes(planner.apply(name)) == {"y": ("MOVE", ""), "new": ("START", "")}
    after = client.lease(second.name)
    assert (list(before.placement.node_ids), list(after.placement.node_ids)) == (["n1"], ["n0"])
    assert list(after.placement.prices_micro_usd_per_gpu_hour) == [before.price.rate_micro_usd_per_hour // 8]
    assert (before.fencing_epoch, after.fencing_epoch) == (1, 2)
    for lease in (before, after):
        lease.ClearField("placement")
        lease.ClearField("fencing_epoch")
    assert before == after
    loopback.clock.now_us = after.end_time_us
    assert client.lease(second.name).end_reason == "COMPLETED"
    assert client.stats().gpus_leased == 0
    assert_replays(loopback)


def test_a_repeated_deployment_answers_with_its_first_place(planner: Planner) -> None:
    """Law 4: a plan that moved the lease does not change the answer of the call that made it."""
    client = planner.client
    client.set_state("nodes/n0", "DOWN")
    deployed = client.deploy(request_id="y", gpu_count=8, key="k")
    client.set_state("nodes/n0", "READY")
    planner.apply(planner.plan(movable_leases=True))
    assert standing(client, deployed.name) == {"n0": 8}
    again = client.deploy(request_id="y", gpu_count=8, key="k")
    for lease in (deployed, again):
        lease.ClearField("timings")
    assert again == deployed


def test_running_leases_stay_out_unless_they_may_move(planner: Planner) -> None:
    """Law 5: without movable_leases a plan touches no lease, even on a node that is draining."""
    client = planner.client
    lease = client.deploy(request_id="x", gpu_count=8)
    client.set_state("nodes/n0", "DRAINING")
    plan = planner.get(planner.plan(wanted("a")))
    assert (plan.report.requests, placed(plan.placements)) == (1, {"a": {"n1": 8}})
    planner.apply(plan.name)
    assert standing(client, lease.name) == {"n0": 8}


@pytest.mark.parametrize("notice", [{}, {"notice_s": 600}])
def test_a_node_that_is_not_ready_is_left(
    loopback: PlanningLoopback, planner: Planner, notice: dict[str, int]
) -> None:
    """docs/planning.md, rule 3: displaced work moves, competing with its bonus; what finds no place ends. So does
    work that has the notice of a drain, and it has none where it goes on."""
    client = planner.client
    low = client.deploy(request_id="low", gpu_count=8)
    high = client.deploy(request_id="high", gpu_count=8, max_price_micro_usd_per_gpu_hour=3_000_000)
    client.set_state("nodes/n2", "DOWN")
    for name in ("n0", "n1"):
        client.set_state(f"nodes/{name}", "DRAINING", **notice)
    loopback.settle()
    client.set_state("nodes/n2", "READY")
    assert client.lease(high.name).end_reason == ("SUPPLIER_DRAINED" if notice else "")
    name = planner.plan(wanted("new"), movable_leases=True, displaced_bonus_micro_usd=2_000_000)
    plan = planner.get(name)
    assert placed(plan.placements) == {"high": {"n2": 8}}
    assert {(each.request_id, each.reason) for each in plan.refusals} == {
        ("low", "DISPLACED"),
        ("new", "SCARCE_CAPACITY"),
    }
    assert outcomes(planner.apply(name)) == {"low": ("STOP", ""), "high": ("MOVE", "")}
    ended = client.lease(low.name)
    assert (ended.end_reason, ended.end_time_us) == ("DISPLACED", loopback.clock.now_us)
    assert ended.refund_micro_usd == ended.price.total_micro_usd > 0
    assert standing(client, high.name) == {"n2": 8}
    assert (client.lease(high.name).state, client.lease(high.name).end_reason) == (high.STATE_ACTIVE, "")
    assert_replays(loopback)


def test_interruptible_work_makes_room_and_on_demand_work_does_not(planner: Planner) -> None:
    """docs/planning.md, rule 3: an interruptible lease worth less is stopped; one on demand never is."""
    client = planner.client
    cheap = {"max_price_micro_usd_per_gpu_hour": 2_600_000}
    stays = client.deploy(request_id="stays", gpu_count=8, **cheap)
    goes = client.deploy(request_id="goes", gpu_count=16, interruptible=True, **cheap)
    name = planner.plan(wanted("new", 16), movable_leases=True)
    assert outcomes(planner.apply(name)) == {"goes": ("STOP", ""), "new": ("START", "")}
    assert client.lease(goes.name).end_reason == "PREEMPTED"
    assert client.lease(stays.name).state == stays.STATE_ACTIVE


def test_a_move_that_no_longer_fits_and_what_counts_on_it(planner: Planner) -> None:
    """Laws 1 and 2: the lease stays where it is, and the gang that was to take its GPUs is left out."""
    client = planner.client
    client.set_state("nodes/n0", "DOWN")
    lease = client.deploy(request_id="x", gpu_count=8)
    client.set_state("nodes/n0", "READY")
    name = planner.plan(wanted("onto n1", 8), wanted("onto n2", 8), movable_leases=True)
    client.set_state("nodes/n0", "DOWN")
    assert outcomes(planner.apply(name)) == {
        "x": ("MOVE", "NODE_NOT_READY"),
        "onto n1": ("START", "CAPACITY_GONE"),
        "onto n2": ("START", ""),
    }
    assert standing(client, lease.name) == {"n1": 8}


def test_moves_for_which_there_is_no_order(greedy: Greedy, planner: Planner) -> None:
    """Law 1: two leases that are to swap full nodes stay where they are, and applying the plan says so."""
    for name in ("x", "y"):
        planner.client.deploy(request_id=name, gpu_count=8)
    greedy.swap = True
    name = planner.plan(movable_leases=True)
    assert outcomes(planner.apply(name)) == {"x": ("MOVE", "CAPACITY_GONE"), "y": ("MOVE", "CAPACITY_GONE")}


def test_a_lease_that_ended_or_moved_meanwhile(planner: Planner) -> None:
    """Laws 1 and 5: a plan moves only what stands where it saw it."""
    client = planner.client
    client.set_state("nodes/n0", "DOWN")
    ended, moved = (client.deploy(request_id=name, gpu_count=4) for name in ("ended", "moved"))
    client.set_state("nodes/n0", "READY")
    first, second = (planner.plan(movable_leases=True) for _ in range(2))
    client.release(ended.name)
    assert outcomes(planner.apply(first)) == {"ended": ("MOVE", "LEASE_ENDED"), "moved": ("MOVE", "")}
    assert outcomes(planner.apply(second)) == {
        "ended": ("MOVE", "LEASE_ENDED"),
        "moved": ("MOVE", "LEASE_CHANGED"),
    }
    assert standing(client, moved.name) == {"n0": 4}
