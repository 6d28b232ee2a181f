"""A quarter of the 200 simulated lives of `make test`."""

from __future__ import annotations

import pytest

from tests.simulation.seeds import assert_lives, tens


@pytest.mark.parametrize("first", tens(0))
def test_no_law_is_broken(first: int) -> None:
    """All laws of DESIGN section 7, at every step."""
    assert_lives(first)
