"""A planning job while it runs: one live line on stderr, if that is a terminal and the job lasts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.cli.amounts import usd
from engine.planning.report import gap_of
from solvers.planning.plan import OnProgress, Progress

QUIET_S = 1.0
"""A job that is done sooner shows nothing while it runs."""
BAR_COLUMNS = 24


class PlanScreen:
    """What the search last said. Unknown values stay unknown; known ones are kept while a phase has none."""

    def __init__(self, time_limit_s: float | None) -> None:
        self.time_limit_s = time_limit_s
        self.began_s = time.perf_counter()
        self.phase = ""
        self.welfare: int | None = None
        self.bound: int | None = None

    def hear(self, step: Progress) -> None:
        """Take over one report."""
        self.phase = step.phase
        if step.welfare_micro_usd_per_hour is not None:
            self.welfare = step.welfare_micro_usd_per_hour
        if step.bound_micro_usd_per_hour is not None:
            self.bound = step.bound_micro_usd_per_hour

    def render(self) -> RenderableType:
        """The line as it stands now; nothing in the first second."""
        elapsed_s = time.perf_counter() - self.began_s
        if elapsed_s < QUIET_S:
            return Text()
        line = Table.grid(padding=(0, 2))
        line.add_row(self.phase, self._bar(elapsed_s), f"{elapsed_s:.1f} s", *self._figures())
        return line

    def _bar(self, elapsed_s: float) -> ProgressBar:
        """Of the time limit, or a pulse where there is none."""
        limit_s = self.time_limit_s
        return ProgressBar(
            total=limit_s, completed=min(elapsed_s, limit_s or 0.0), width=BAR_COLUMNS, pulse=limit_s is None
        )

    def _figures(self) -> Iterator[str]:
        if self.welfare is not None:
            yield f"welfare {usd(self.welfare)}/h"
        if self.bound is not None:
            yield f"bound {usd(self.bound)}/h"
        if self.welfare is not None and self.bound is not None:
            gap = gap_of(self.bound, self.welfare)
            yield "" if gap is None else f"gap {100 * gap:.3f} %"


@contextmanager
def watching(console: Console, time_limit_s: float | None) -> Iterator[OnProgress | None]:
    """A listener that shows what it hears until the block ends; None where nobody watches."""
    if not console.is_terminal:
        yield None
        return
    screen = PlanScreen(time_limit_s)
    with Live(get_renderable=screen.render, console=console, refresh_per_second=8, transient=True):
        yield screen.hear
