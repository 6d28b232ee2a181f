"""How kernels are compiled: once, cached on disk, without the interpreter's lock.

Kernels take plain arrays and tuples of arrays and create no Python object. Tuples keep the calls readable; their
layouts are written down where they are built (`solvers.placement.Placer`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])
Arrays = tuple[Any, ...]
"""A tuple of arrays and numbers, as Numba takes it."""

BLAS = "scipy.linalg"


def _settle_blas() -> None:
    """Let Numba find no BLAS: asking SciPy took two fifths of loading the first kernel, and none here needs it."""
    if BLAS in sys.modules:
        return
    sys.modules[BLAS] = None  # type: ignore[assignment]  # so that importing it fails at once
    try:
        import_module("numba.np.arraymath")
    finally:
        del sys.modules[BLAS]


_settle_blas()


def kernel(function: Function) -> Function:
    """Compile a function with Numba on its first call with given types."""
    return cast(Function, njit(cache=True, nogil=True)(function))


@kernel
def nothing() -> None:
    """What loading any kernel takes but for the kernel itself."""


def ready_numba() -> None:
    """Ready Numba itself, which its first kernel otherwise waits for: ten times as long as for any later one."""
    nothing()
