"""Between the contract's messages of PlanService and the values of planning and market."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from walras.v1 import cluster_request_pb2
from walras.v1 import plan_service_pb2 as pb

from engine.domain.cluster_request import ClusterRequest
from engine.domain.errors import InvalidInput, Violation
from engine.domain.limits import MAX_PRICE_MICRO_USD_PER_GPU_HOUR, MAX_TOTAL_MICRO_USD
from engine.domain.money import total_micro_usd
from engine.market.inventory import Inventory
from engine.market.plan_decision import MOVE, START, STOP
from engine.market.state import Application
from engine.planning.snapshot import Rules
from engine.service.cluster_codec import request_from
from engine.service.plan_store import KeptPlan
from solvers.planning.plan import Limits, Plan, Progress

REQUESTS_MAX = 10_000
QUEUE_BYTES_MAX = 16 * 1024 * 1024
WORK_LIMIT_MAX = 1_000_000
KnownMessages = dict[bytes, ClusterRequest]
"""Requests of a queue that was right, by the bytes of their messages."""
REQUIRED = ("duration_s", "max_price_micro_usd_per_gpu_hour")


class QueueChunks:
    """Collects the messages of one queue."""

    def __init__(self) -> None:
        self.requests: list[cluster_request_pb2.ClusterRequest] = []
        self.options: pb.PlanOptions | None = None
        self._bytes = self._options_given = 0

    @property
    def last_plan_id(self) -> str:
        """The plan to start from; empty for none."""
        return "" if self.options is None else self.options.last_plan_id

    def add(self, chunk: pb.RunPlanRequest) -> None:
        """Take one message; InvalidInput beyond the limits of a queue."""
        self._bytes += chunk.ByteSize()
        self.requests += chunk.requests
        if len(self.requests) > REQUESTS_MAX or self._bytes > QUEUE_BYTES_MAX:
            limits = f"{REQUESTS_MAX:,} requests or {QUEUE_BYTES_MAX:,} bytes"
            raise InvalidInput([Violation("requests", f"the queue exceeds {limits}")])
        if chunk.HasField("options"):
            self.options = chunk.options
            self._options_given += 1

    def check_options(self) -> None:
        """InvalidInput if options came more than once."""
        if self._options_given > 1:
            raise InvalidInput([Violation("options", "must be given once")])


def requests_from(
    messages: Sequence[cluster_request_pb2.ClusterRequest], known: Mapping[bytes, ClusterRequest]
) -> KnownMessages:
    """The checked request of each message, in their order; InvalidInput names fields as `requests[3].gpu_count`.

    `known`: messages of an earlier queue, which were found right then: what is wrong with a message by itself
    depends on its bytes alone.
    """
    found: KnownMessages = {}
    violations: list[Violation] = []
    named = Counter(message.request_id for message in messages)
    for index, message in enumerate(messages):
        content, prefix = message.SerializeToString(), f"requests[{index}]."
        if message.request_id and named[message.request_id] > 1:
            violations.append(Violation(f"{prefix}request_id", "names more than one request of the queue"))
        request = known.get(content)
        if request is None:
            wrong = _unfit(message, prefix)
            try:
                request = request_from(message, prefix)
            except InvalidInput as error:
                violations += wrong + list(error.violations)
                continue
            violations += wrong + _too_large(request, prefix)
        found[content] = request
    if violations:
        raise InvalidInput(violations)
    return found


def _unfit(message: Any, prefix: str) -> list[Violation]:
    """Why a message is none for a plan, whatever else is wrong with it."""
    missing = [name for name in REQUIRED if not message.HasField(name)]
    if not message.request_id:
        missing.append("request_id")
    wrong = [Violation(prefix + name, "is required by a plan") for name in missing]
    if message.all_matching:
        wrong.append(Violation(f"{prefix}all_matching", "has no size to plan with"))
    return wrong


def _too_large(request: ClusterRequest, prefix: str) -> list[Violation]:
    rate = request.gpu_count * (request.max_price_micro_usd_per_gpu_hour or 0)
    if total_micro_usd(rate, request.priced_duration_s) <= MAX_TOTAL_MICRO_USD:
        return []
    return [Violation(f"{prefix}duration_s", "makes the total at the price limit larger than can be charged")]


def options_from(options: pb.PlanOptions | None, time_limit_s_max: float) -> tuple[Rules, Limits]:
    """The checked options of a run; InvalidInput lists what is wrong."""
    given = options or pb.PlanOptions()
    time_limit_s = given.time_limit_s if given.HasField("time_limit_s") else time_limit_s_max
    violations = [
        Violation(f"options.{name}", f"must be between 0 and {most:,}, got {getattr(given, name)}")
        for name, most in (
            ("work_limit", WORK_LIMIT_MAX),
            ("seed", 2**31 - 1),
            ("move_cost_micro_usd", MAX_PRICE_MICRO_USD_PER_GPU_HOUR),
            ("displaced_bonus_micro_usd", MAX_PRICE_MICRO_USD_PER_GPU_HOUR),
        )
        if not 0 <= getattr(given, name) <= most
    ]
    if not (math.isfinite(time_limit_s) and 0 < time_limit_s <= time_limit_s_max):
        allowed = f"must be above 0 and at most {time_limit_s_max:g}, got {time_limit_s}"
        violations.append(Violation("options.time_limit_s", allowed))
    if violations:
        raise InvalidInput(violations)
    work = given.work_limit if given.HasField("work_limit") else None
    rules = Rules(given.move_cost_micro_usd, given.displaced_bonus_micro_usd, given.movable_leases)
    return rules, Limits(work=work, time_s=time_limit_s, seed=given.seed)


def progress_message(step: Progress) -> pb.RunPlanResponse:
    """One step of the search."""
    welfare, bound = step.welfare_micro_usd_per_hour, step.bound_micro_usd_per_hour
    return pb.RunPlanResponse(
        phase=step.phase,
        elapsed_ms=round(step.elapsed_s * 1_000),
        welfare_micro_usd_per_hour=welfare,
        bound_micro_usd_per_hour=bound,
        gap=None if welfare is None or bound is None else _gap(bound, welfare),
    )


def done_message(kept: KeptPlan) -> pb.RunPlanResponse:
    """The last message of a run."""
    plan = kept.made.plan
    message = progress_message(Progress("done", kept.wall_s, plan.welfare, plan.bound))
    message.name, message.plan_id = f"plans/{kept.plan_id}", kept.plan_id
    return message


def _gap(bound: int, welfare: int) -> float | None:
    if bound == welfare:
        return 0.0
    return (bound - welfare) / bound if bound > 0 else None


class Page(NamedTuple):
    """Rows [start, start + size) of a plan's placements, moves and refusals, one after the other."""

    start: int
    size: int

    def part(self, before: int, rows: int) -> range:
        """Which of the rows of a list lie on the page, if so many rows stand before the list."""
        return range(min(max(self.start - before, 0), rows), min(max(self.start + self.size - before, 0), rows))


def row_count(kept: KeptPlan) -> int:
    """Rows of a plan, of all kinds."""
    made = kept.made
    return int(made.outcome.placements.gang.size + made.moves.step.size + len(made.outcome.refusals))


def plan_message(kept: KeptPlan, inventory: Inventory, page: Page) -> pb.Plan:
    """One page of a plan. Node numbers never change, so any later inventory names its nodes."""
    made = kept.made
    placements, moves, refusals = made.outcome.placements, made.moves, made.outcome.refusals
    before = placements.gang.size, placements.gang.size + moves.step.size
    names = inventory.node_ids
    message = pb.Plan(name=f"plans/{kept.plan_id}", plan_id=kept.plan_id, report=_report(kept))
    for row in page.part(0, before[0]):
        message.placements.add(
            **_gang(kept, placements.gang[row]),
            node_id=names[placements.node[row]],
            gpus=placements.gpus[row],
            price_micro_usd_per_gpu_hour=placements.price_micro_usd_per_gpu_hour[row],
        )
    for row in page.part(before[0], moves.step.size):
        message.moves.add(
            **_gang(kept, moves.request[row]),
            step=moves.step[row],
            from_node_id=names[moves.from_node[row]],
            to_node_id=names[moves.to_node[row]],
            gpus=moves.gpus[row],
        )
    for row in page.part(before[1], len(refusals)):
        refusal = refusals[row]
        message.refusals.add(**_gang(kept, refusal.gang), reason=refusal.reason, detail=refusal.detail)
    return message


def _gang(kept: KeptPlan, index: int) -> dict[str, Any]:
    gang = kept.made.gangs[index]
    return {"request_id": gang.request.request_id, "lease_id": gang.lease_id}


def _report(kept: KeptPlan) -> pb.PlanReport:
    made, outcome, plan = kept.made, kept.made.outcome, kept.made.plan
    report = pb.PlanReport(
        status=_status(plan),
        requests=len(made.gangs),
        requests_served=outcome.served,
        gpus_placed=int(plan.gpus.sum()),
        welfare_micro_usd_per_hour=plan.welfare,
        bound_micro_usd_per_hour=plan.bound,
        gap=plan.gap,
        make_whole_micro_usd_per_hour=outcome.make_whole_micro_usd_per_hour,
        parameters=_parameters(kept),
        state_version=made.state_version,
        fleet_version=made.fleet_version,
        wall_s=kept.wall_s,
        create_time_us=kept.created_at_us,
        expire_time_us=kept.expires_at_us,
    )
    if plan.stronger is not None:
        report.stronger_bound_micro_usd_per_hour = plan.stronger.micro_usd_per_hour
        report.stronger_method = plan.stronger.method
        gap = _gap(plan.stronger.micro_usd_per_hour, plan.welfare)
        if gap is not None:
            report.stronger_gap = gap
    return report


def _status(plan: Plan) -> str:
    if plan.gap == 0.0:
        return "OPTIMAL"
    return "TIME_LIMIT" if plan.ended_by_clock else "FEASIBLE"


def _parameters(kept: KeptPlan) -> pb.PlanOptions:
    rules, limits = kept.rules, kept.limits
    return pb.PlanOptions(
        work_limit=limits.work,
        time_limit_s=limits.time_s,
        seed=limits.seed,
        move_cost_micro_usd=rules.move_cost_micro_usd,
        displaced_bonus_micro_usd=rules.displaced_bonus_micro_usd,
        movable_leases=rules.movable_leases,
        last_plan_id=kept.last_plan_id,
    )


def applied_message(plan_id: str, application: Application) -> pb.ApplyPlanResponse:
    """What became of a plan."""
    made = Counter(outcome.change for outcome in application.outcomes if not outcome.reason)
    message = pb.ApplyPlanResponse(
        name=f"plans/{plan_id}",
        leases_started=made[START],
        leases_moved=made[MOVE],
        leases_ended=made[STOP],
        changes_refused=len(application.outcomes) - made.total(),
    )
    for outcome in application.outcomes:
        message.outcomes.add(
            request_id=outcome.request_id,
            lease_id=outcome.lease_id,
            change=outcome.change,
            reason=outcome.reason,
            detail=outcome.detail,
        )
    return message
