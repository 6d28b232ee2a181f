"""A trace of pods that share GPUs, and the stream that the published experiment makes of it.

Pods are shuffled by seed; then pods drawn from the trace are appended until the GPUs asked for reach a multiple of
the GPUs there are. (The published rule adds the draw that would cross the line only if one GPU of it still fits.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from engine.datasets.openb import openb_machines, openb_pods
from solvers.sharing.fleet import CARD_MILLI, Int, Machines, Shapes

SHAPE_COLUMNS = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")


@dataclass(frozen=True, slots=True)
class SharingTrace:
    """Machines, kinds of pods, and the pods of the trace by kind. Kinds stand in order of their first pod."""

    machines: Machines
    shapes: Shapes
    pods: Int
    """(P,) kind of each pod, in the order of their names."""

    @property
    def capacity_milli(self) -> int:
        """GPU milli of all machines."""
        return int(self.machines.gpus.sum()) * CARD_MILLI

    def counts(self) -> Int:
        """Pods of each kind (K,)."""
        return np.bincount(self.pods, minlength=self.shapes.gpus.size)

    def arrivals(self, seed: int, ratio: float) -> Int:
        """Kinds in order of arrival, until their GPUs are `ratio` times those there are."""
        draw = np.random.default_rng(seed)
        first = draw.permutation(self.pods)
        each, one = self.shapes.gpu_milli_each(), self.shapes.gpu_milli
        asked, most, more = int(each[first].sum()), ratio * self.capacity_milli, []
        while True:
            kind = int(self.pods[draw.integers(self.pods.size)])
            if asked + one[kind] > most:
                break
            asked += int(each[kind])
            more.append(kind)
        return np.concatenate((first, np.array(more, dtype=np.int64)))


def openb_trace(data_dir: Path, trace: str) -> SharingTrace:
    """The open trace: `default`, or `gpuspec33` where 33 % of the pods with GPUs name models."""
    machines, pods = openb_machines(data_dir), openb_pods(data_dir, trace)
    return sharing_trace(machines, pods)


def sharing_trace(machines: pl.DataFrame, pods: pl.DataFrame) -> SharingTrace:
    """From tables with the columns of `openb_machines` and `openb_pods`."""
    models = machines["model"].unique().sort().to_list()
    kinds = pods.unique(SHAPE_COLUMNS, keep="first", maintain_order=True).select(SHAPE_COLUMNS)
    of = pods.join(kinds.with_row_index("kind"), on=SHAPE_COLUMNS, nulls_equal=True, maintain_order="left")
    accepted = [_accepted(spec, models) for spec in kinds["gpu_spec"].to_list()]
    codes = machines["model"].replace_strict(models, range(len(models)), return_dtype=pl.Int64)
    cpu, memory, gpus, gpu_milli = (_ints(kinds[name]) for name in SHAPE_COLUMNS[:-1])
    return SharingTrace(
        Machines(_ints(codes), *(_ints(machines[name]) for name in ("gpu", "cpu_milli", "memory_mib"))),
        Shapes(cpu, memory, gpus, gpu_milli, np.array(accepted)),
        _ints(of["kind"]),
    )


def _accepted(spec: str | None, models: list[str]) -> list[bool]:
    named = None if spec is None else set(spec.split("|"))
    return [named is None or model in named for model in models]


def _ints(column: pl.Series) -> Int:
    return column.to_numpy().astype(np.int64)
