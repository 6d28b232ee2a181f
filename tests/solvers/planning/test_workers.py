"""Whoever searches the parts, and whatever happens to them, finds the same plan."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from solvers.planning import processes
from solvers.planning.plan import Limits, Plan
from solvers.planning.processes import Processes
from solvers.planning.shared_memory import FOLDER, Opened, shared
from solvers.planning.solve import solve
from solvers.planning.workers import Threads
from tests.planning.parted_worlds import digest, parted_problem, plan_by


@pytest.fixture(scope="module")
def alone() -> Plan:
    return plan_by(Threads(1))


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_in_shared_memory() -> Iterator[None]:
    """Of what these tests made there; others on this machine have theirs."""
    made: list[Path] = []

    class Recorded(SharedMemory):
        def __init__(self, name: str | None = None, create: bool = False, size: int = 0) -> None:
            super().__init__(name, create, size)
            if create:
                made.append(FOLDER / self.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("solvers.planning.shared_memory.SharedMemory", Recorded)
        yield
    assert made and not any(path.exists() for path in made)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_search_improves_the_plan_and_two_threads_find_what_one_finds(alone: Plan) -> None:
    welfare = [step.welfare_micro_usd_per_hour for step in alone.history if step.phase in ("place", "improve")]
    assert welfare == sorted(welfare) and welfare[-1] > welfare[0]
    assert digest(plan_by(Threads(2))) == digest(alone)


@pytest.mark.parametrize("count", [1, 2])
def test_processes_find_what_one_thread_finds_and_are_gone_afterwards(count: int, alone: Plan) -> None:
    """Law 10, and nothing leaks."""
    with Processes(count) as searchers:
        pids = searchers.pids
        assert len(pids) == count
        assert digest(plan_by(searchers)) == digest(alone)
        assert searchers.losses == 0 and searchers.pids and set(searchers.pids) == set(pids)
    assert not any(map(is_alive, pids))


def test_workers_killed_while_they_search_change_nothing(alone: Plan) -> None:
    """One dies over its part (it is stopped, so that it surely has one), one between two passes."""
    with Processes(2) as searchers:
        victims = searchers.pids

        def kill(number: int) -> None:
            if number == 0:
                os.kill(victims[0], signal.SIGSTOP)
                threading.Timer(1.0, os.kill, (victims[0], signal.SIGKILL)).start()
            if number == 1 and is_alive(victims[1]):
                os.kill(victims[1], signal.SIGKILL)

        assert digest(plan_by(searchers, kill)) == digest(alone)
        assert searchers.losses == 2 and not set(searchers.pids) & set(victims)


def test_a_silent_worker_is_replaced(alone: Plan) -> None:
    with Processes(1) as searchers:

        def stop(number: int) -> None:
            searchers.patience_s = 0.5 if number == 1 else processes.PATIENCE_S
            if number == 1:
                os.kill(searchers.pids[0], signal.SIGSTOP)
                threading.Timer(0.8, setattr, (searchers, "patience_s", processes.PATIENCE_S)).start()

        assert digest(plan_by(searchers, stop)) == digest(alone)
        assert 1 <= searchers.losses <= processes.LOSSES_MAX


def test_when_every_worker_dies_the_search_goes_on_without_them(
    alone: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOSSES_MAX", 0)
    with Processes(1) as searchers:
        os.kill(searchers.pids[0], signal.SIGKILL)
        assert digest(plan_by(searchers)) == digest(alone)
        assert searchers.pids == []


def test_a_time_limit_does_not_wait_for_processes_that_hang() -> None:
    with Processes(1) as searchers:
        os.kill(searchers.pids[0], signal.SIGSTOP)
        began_s = time.monotonic()
        plan = solve(parted_problem(), Limits(time_s=1.0), None, searchers)
        assert plan.ended_by_clock and time.monotonic() - began_s < 1.0 + processes.GRACE_S + 2.0


def test_arrays_in_shared_memory_are_the_same_arrays() -> None:
    value = (np.arange(7), np.zeros((0, 3)), (np.eye(3, dtype=bool), 1.5))
    with shared(value) as parcel:
        opened = Opened(parcel)
        first, empty, (flags, number) = opened.value
        assert first.tolist() == list(range(7)) and empty.shape == (0, 3) and number == 1.5
        assert flags.tolist() == np.eye(3, dtype=bool).tolist() and first.flags.writeable
        del first, empty, flags
        opened.close()


@pytest.mark.parametrize("is_sized", [False, True])
def test_a_signal_while_shared_memory_is_made_leaves_none(monkeypatch: pytest.MonkeyPatch, is_sized: bool) -> None:
    """Law: whenever the process is told to end, what it made is gone."""
    made: list[Path] = []

    class Interrupted(SharedMemory):
        def __init__(self, name: str, create: bool = False, size: int = 0) -> None:
            if create and not is_sized:
                (FOLDER / name).touch()
            else:
                super().__init__(name, create, size)
            if create:
                made.append(FOLDER / name)
                raise SystemExit(143)

    monkeypatch.setattr("solvers.planning.shared_memory.SharedMemory", Interrupted)
    with pytest.raises(SystemExit), shared(np.zeros(10)):
        pass
    assert made and not made[0].exists()


def test_too_little_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5}))
    with pytest.raises(OSError, match="80 bytes of shared memory needed, 5 free"), shared(np.zeros(10)):
        pass
