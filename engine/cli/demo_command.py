"""`walras demo`."""

from __future__ import annotations

from typing import Annotated

import typer

DEMO_GPUS = 1_000_000
MIN_GPUS = 100_000
"""Smaller fleets of some seeds have too few H100 near New York for the story."""
DEMO_SEED = 7


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Data")(demo)


def demo(
    gpus: Annotated[int, typer.Option(help="GPUs of the built-in fleet.", min=MIN_GPUS)] = DEMO_GPUS,
    seed: Annotated[int, typer.Option(help="Same seed, same fleet and same placement.")] = DEMO_SEED,
) -> None:
    """Start an engine, load a million GPUs, deploy a cluster of 10,000, plan a queue; leave nothing behind."""
    from engine.cli.demo import run_demo

    run_demo(gpus, seed)
