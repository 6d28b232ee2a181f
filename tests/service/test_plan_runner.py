"""The thread in which a plan is made."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from engine.service.plan_runner import PlanRunner
from engine.service.priorities import NICE_MAX, PLANNING_NICE, TASKS
from solvers.planning.plan import OnProgress


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads have no priority of their own")
def test_a_plan_gives_way_to_calls() -> None:
    """Law: the thread that makes a plan, and what it starts, goes after those that decide and read; they stay."""

    def niceness(_: OnProgress) -> list[int]:
        found = [os.getpriority(os.PRIO_PROCESS, 0)]
        helper = threading.Thread(target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, 0)))
        helper.start()
        helper.join()
        return found

    async def made() -> list[object]:
        return [step async for step in PlanRunner[list[int]]().run(niceness)]

    own = os.getpriority(os.PRIO_PROCESS, os.getpid())
    assert asyncio.run(made()) == [[min(own + PLANNING_NICE, NICE_MAX)] * 2]
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == own
