"""The work of `walras plan show`: tables on stdout, and the picture of the search beside the plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from engine.cli.amounts import percent, usd, usd_per_gpu_hour
from engine.cli.screen import answers, remarks
from engine.cli.text_table import SHOWN_ROWS, text_table
from engine.planning import show
from engine.planning.certificate_files import PlanFiles, read_plan_files
from engine.planning.plan_directory import write_whole
from engine.planning.progress_picture import progress_svg

if TYPE_CHECKING:
    from rich.table import Table

PICTURE_FILE = "progress.svg"


def show_directory(directory: Path) -> None:
    """Print the tables of a plan and write its picture beside it, if the directory can be written to.

    InvalidInput names a file that cannot be understood.
    """
    files = read_plan_files(directory)
    console = answers()
    for table in _tables(files):
        console.print(table)
    report = files.report
    picture = progress_svg(report.get("history", ()), float(report.get("wall_s", 0.0)), report["gap"])
    path = directory / PICTURE_FILE
    try:
        write_whole(path, picture.encode())
    except OSError as error:
        remarks().print(f"the picture was not written: {path}: {error.strerror}", soft_wrap=True)
    else:
        remarks().print(f"the search as a picture: {path}", soft_wrap=True)


def _tables(files: PlanFiles) -> Iterator[Table]:
    nodes = show.nodes_after(files)
    yield _utilisation(show.utilisation(nodes))
    yield _refusals(show.refusals_by_reason(files))
    yield _prices(show.prices_by_market(files, nodes))
    yield _fragmentation(show.fragmentation(files, nodes))
    yield _scarce(show.scarce_sets(files))


def _utilisation(frame: pl.DataFrame) -> Table:
    total = ("all", *frame.select("gpus", "used_before", "used_after").sum().row(0))
    rows = (
        (model, f"{gpus:,}", percent(before, gpus), percent(after, gpus))
        for model, gpus, before, after in (total, *frame.head(SHOWN_ROWS).iter_rows())
    )
    title = _title("utilisation of READY nodes", frame)
    return text_table(title, ("model",), ("GPUs", "used before", "used after"), rows)


def _refusals(frame: pl.DataFrame) -> Table:
    rows = (
        (reason, f"{requests:,}", f"{gpus:,}", usd(int(bid))) for reason, requests, gpus, bid in frame.iter_rows()
    )
    return text_table("refused requests", ("reason",), ("requests", "GPUs", "bid per hour"), rows)


def _prices(frame: pl.DataFrame) -> Table:
    rows = (
        (model, region, tier, f"{gpus:,}", *(usd_per_gpu_hour(round(price)) for price in prices))
        for model, region, tier, gpus, *prices in frame.head(SHOWN_ROWS).iter_rows()
    )
    title = _title("shadow price per GPU-hour by market", frame)
    return text_table(title, ("model", "region", "tier"), ("GPUs", "median", "lowest", "highest"), rows)


def _fragmentation(frame: pl.DataFrame) -> Table:
    rows = (
        (model, f"{shape:,}", f"{refused:,}", f"{free:,}", f"{stranded:,}", percent(stranded, free))
        for model, shape, refused, free, stranded in frame.head(SHOWN_ROWS).iter_rows()
    )
    title = _title("free GPUs stranded in nodes too broken for the refused queue", frame)
    numbers = ("GPUs per node wanted", "GPUs refused", "GPUs free", "stranded", "share")
    return text_table(title, ("model",), numbers, rows)


def _scarce(frame: pl.DataFrame) -> Table:
    rows = (
        (detail, f"{requests:,}", f"{gpus:,}") for detail, requests, gpus in frame.head(SHOWN_ROWS).iter_rows()
    )
    return text_table(_title("what is scarce", frame), ("set",), ("requests", "GPUs wanted"), rows)


def _title(title: str, frame: pl.DataFrame) -> str:
    return title if frame.height <= SHOWN_ROWS else f"{title}: the first {SHOWN_ROWS} of {frame.height:,}"
