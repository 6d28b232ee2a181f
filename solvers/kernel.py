"""How kernels are compiled: once, cached on disk, without the interpreter's lock.

Kernels take plain arrays and tuples of arrays and create no Python object. Tuples keep the calls readable; their
layouts are written down where they are built (`solvers.placement.Placer`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])
Arrays = tuple[Any, ...]
"""A tuple of arrays and numbers, as Numba takes it."""
UNCOUNTED: dict[str, Any] = {"_nrt": False}
"""Without Numba's runtime, which counts who holds an array; a kernel that makes one does not compile."""


def kernel(function: Function) -> Function:
    """Compile a function with Numba on its first call with given types."""
    return cast(Function, njit(cache=True, nogil=True)(function))


def leaf(function: Function) -> Function:
    """Compile a function that makes no array, and returns one to other leaves only.

    It counts no references: tuples of arrays are handed on for nothing, and threads do not write to one counter.
    """
    return cast(Function, njit(cache=True, nogil=True, **UNCOUNTED)(function))


def inlined(function: Function) -> Function:
    """A `leaf` that is copied into whoever calls it: handing on tuples of arrays takes longer than a few steps."""
    return cast(Function, njit(cache=True, nogil=True, forceinline=True, **UNCOUNTED)(function))


@kernel
def nothing() -> None:
    """What loading any kernel takes but for the kernel itself."""


def ready_numba() -> None:
    """Ready Numba itself, which its first kernel otherwise waits for: ten times as long as for any later one."""
    nothing()
