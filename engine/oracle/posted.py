"""The posted price: the clearing price, smoothed and bounded (DESIGN, section 3.2).

All prices are integer micro-USD per GPU-hour. The one rounding rule: a step is rounded away from zero, so that a
price reaches what it moves to; the bounds of a step are rounded towards the price, so that they are never left.
Each function is monotone in every price it takes and the same for all markets: what is ordered along dominance
before it is ordered after it.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from engine.oracle.parameters import OracleParameters

Int = NDArray[np.int64]


@overload
def next_posted(posted: int, clearing: int, floor: int, cap: int, parameters: OracleParameters) -> int: ...
@overload
def next_posted(posted: Int, clearing: Int, floor: Int, cap: Int, parameters: OracleParameters) -> Int: ...
def next_posted(posted: Any, clearing: Any, floor: Any, cap: Any, parameters: OracleParameters) -> Any:
    """The posted price one epoch later: towards the clearing price by the weight, clipped per epoch, then to
    [floor, cap].

    Four integers give an integer, four int64 arrays of one shape give one. If floor <= posted <= cap held before
    and the bounds came from `next_bound`, the result keeps both the bounds and the clip.
    """
    moved = np.clip(_towards(posted, clearing, parameters.smoothing_weight), *step_bounds(posted, parameters))
    return _like(posted, np.clip(moved, floor, cap))


@overload
def next_bound(bound: int, target: int, parameters: OracleParameters) -> int: ...
@overload
def next_bound(bound: Int, target: Int, parameters: OracleParameters) -> Int: ...
def next_bound(bound: Any, target: Any, parameters: OracleParameters) -> Any:
    """A floor or a cap one epoch later: its target, as near as the clip allows."""
    return _like(bound, np.clip(target, *step_bounds(bound, parameters)))


@overload
def next_long_run(long_run: int, posted: int, parameters: OracleParameters) -> int: ...
@overload
def next_long_run(long_run: Int, posted: Int, parameters: OracleParameters) -> Int: ...
def next_long_run(long_run: Any, posted: Any, parameters: OracleParameters) -> Any:
    """The long-run price F one epoch later: an exponential average of posted prices, by `long_run_half_life_h`."""
    return _like(long_run, _towards(long_run, posted, parameters.long_run_weight))


def step_bounds(price: Any, parameters: OracleParameters) -> tuple[Int, Int]:
    """(least, most) that a positive price may be one epoch later."""
    factor = parameters.max_epoch_factor
    exact = np.asarray(price, dtype=np.int64)
    return np.ceil(exact / factor).astype(np.int64), np.floor(exact * factor).astype(np.int64)


def _towards(price: Any, target: Any, weight: float) -> Int:
    """price + weight·(target − price), the step rounded away from zero but never past the target."""
    distance = np.asarray(target, dtype=np.int64) - np.asarray(price, dtype=np.int64)
    size = np.minimum(np.ceil(np.abs(distance) * weight).astype(np.int64), np.abs(distance))
    moved: Int = price + np.sign(distance) * size
    return moved


def _like(given: Any, result: Int) -> Any:
    return result if isinstance(given, np.ndarray) else int(result)
