"""Plans that the real solver wrote, from a world of the tests or from files."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.planning.batch import plan_files
from engine.planning.inputs import InputPaths
from engine.planning.plan_options import PlanOptions
from engine.planning.report import Report
from tests.planning.joint_worlds import JointWorld, write


def input_paths(directory: Path) -> InputPaths:
    """The files of `joint_worlds.write`; an optional one that is not there is not given."""
    given = {path.stem: path for path in directory.glob("*.parquet")}
    return InputPaths(given["fleet"], given["requests"], given.get("rtt"), given.get("placements"))


def plan_world(world: JointWorld, directory: Path, work_limit: int | None = None) -> Report:
    """Write the world and its plan, the plan into `directory`."""
    inputs = directory.with_name(f"{directory.name}-in")
    shutil.rmtree(inputs, ignore_errors=True)
    write(world, inputs)
    options = PlanOptions(
        work_limit=work_limit,
        move_cost_micro_usd=world.move_cost_micro_usd,
        displaced_bonus_micro_usd=world.displaced_bonus_micro_usd,
    )
    return plan_files(input_paths(inputs), directory, options)
