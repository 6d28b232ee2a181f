"""The command as a process: readers that go, streams that are closed, signals that end it. Children, no engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cli.exit_codes import ExitCode
from engine.datasets.synthetic import synthetic_fleet, synthetic_requests
from tests.planning.joint_worlds import joint_world_from_seed
from tests.planning.our_plans import plan_world

WALRAS = (sys.executable, "-m", "engine.cli")
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plan") / "out"
    plan_world(joint_world_from_seed(3), directory)
    return directory


def unread(*arguments: object, also_stderr: bool = False) -> tuple[int, str]:
    """(exit code, stderr) of a command whose reader has gone before it answers."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [*WALRAS, *map(str, arguments)]
    stderr = subprocess.STDOUT if also_stderr else subprocess.PIPE
    try:
        done = subprocess.run(command, stdout=writer, stderr=stderr, text=True, timeout=TIMEOUT_S, check=False)
    finally:
        os.close(writer)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("command", ["plan check", "plan show"])
def test_a_yes_that_nobody_reads_is_a_yes(plan: Path, command: str) -> None:
    """Law: the exit code is that of the answer, whether it is read or not."""
    code, err = unread(*command.split(), plan)
    assert code == 0 and "rror" not in err


def test_help_that_nobody_reads_is_done() -> None:
    assert unread("--help") == (0, "")


def test_a_no_that_nobody_reads_is_a_no(plan: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(plan, wrong)
    report = json.loads((wrong / "report.json").read_text())
    (wrong / "report.json").write_text(json.dumps(report | {"requests": report["requests"] + 1}))
    assert unread("plan", "check", wrong, also_stderr=True)[0] == 1
    assert unread("plan", "check", tmp_path / "none", also_stderr=True)[0] == 2


@pytest.mark.parametrize(("closed", "code"), [(">&-", 2), ("2>&-", 0)])
def test_a_closed_stream_is_named_or_does_without(plan: Path, closed: str, code: int) -> None:
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *WALRAS, "plan", "check", str(plan)]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == code
    assert done.stderr == "" if code == 0 else "stdout: is closed" in done.stderr


def children(process: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()}


def shared_memory(process: int) -> set[Path]:
    maps = Path(f"/proc/{process}/maps").read_text().split()
    return {Path(word) for word in maps if word.startswith("/dev/shm/")}


def test_sigterm_ends_a_plan_and_its_workers_quietly(tmp_path: Path) -> None:
    """Law: told to end, the command says nothing, and leaves no process, no shared memory and no plan."""
    fleet = synthetic_fleet(40_000, 2)
    fleet.write_parquet(tmp_path / "fleet.parquet")
    synthetic_requests(fleet, 600, 2, 1.1).write_parquet(tmp_path / "requests.parquet")
    files = [f"--{name}={tmp_path / name}.parquet" for name in ("fleet", "requests")]
    command = [*WALRAS, "plan", *files, f"--out={tmp_path / 'out'}", "--workers=2", "--work-limit=100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as planner:
        give_up_at_s = time.monotonic() + TIMEOUT_S
        while not (shared := shared_memory(planner.pid)) and time.monotonic() < give_up_at_s:
            time.sleep(0.05)
        workers = children(planner.pid)
        planner.send_signal(signal.SIGTERM)
        out, err = planner.communicate(timeout=TIMEOUT_S)
    assert (planner.returncode, out, err) == (ExitCode.TERMINATED, "", "")
    assert shared and len(workers) >= 2
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < give_up_at_s, "the keeper of shared memory ends a moment after the planner"
        time.sleep(0.05)
    assert not [path for path in shared if path.exists()]
    assert not (tmp_path / "out" / "report.json").exists()
