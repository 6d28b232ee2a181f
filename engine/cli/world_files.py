"""The work of `walras world`: find the data, write the files, say what they hold."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from engine.cli.screen import answers, print_json, remarks
from engine.cli.text_table import pair_table
from engine.cli.world_command import DATA_VARIABLE
from engine.datasets.world import WorldSummary, write_world
from engine.domain.errors import InvalidInput, Violation


def write_world_files(
    out: Path, gpus: int, requests: int, seed: int, real: str | None, load: float | None, as_json: bool
) -> None:
    """Write a world. `real` is None for a drawn one, "" for the data of the environment, else a directory."""
    data_dir = None if real is None else data_directory(real)
    with remarks().status("building the world") as status:
        summary = write_world(
            out, gpus=gpus, requests=requests, seed=seed, data_dir=data_dir, load=load, progress=status.update
        )
    if as_json:
        print_json({**asdict(summary), "load": summary.load})
    else:
        answers().print(pair_table(f"written to {out}", _summary_rows(summary)))


def data_directory(named: str) -> Path:
    """The directory of public data: the one named, or that of the environment if the name is empty."""
    place = named or os.environ.get(DATA_VARIABLE, "")
    if not place:
        raise InvalidInput([Violation("--real", f"name the directory of the data, or set ${DATA_VARIABLE}")])
    if not Path(place).is_dir():
        source = "--real" if named else f"${DATA_VARIABLE}"
        raise InvalidInput([Violation(source, f"{place} is not a directory")])
    return Path(place)


def _summary_rows(summary: WorldSummary) -> list[tuple[str, str]]:
    rows = [(name.replace("_", " "), f"{value:,}") for name, value in asdict(summary).items()]
    return [*rows, ("load", "-" if summary.load is None else f"{summary.load:.3f}")]
