"""How this folder's kernels are compiled: as everywhere, plus leave to take minima in any order.

Values are finite, so a minimum does not depend on the order in which it is taken, and the compiler may use vector
instructions for it. Sums stay in their written order: same input, same bytes.
"""

from __future__ import annotations

from typing import cast

from numba import njit

from solvers.kernel import Arrays, Function

__all__ = ["Arrays", "finite_kernel"]


def finite_kernel(function: Function) -> Function:
    """Compile a function that meets no NaN and does not tell 0.0 from −0.0."""
    return cast(Function, njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})(function))
