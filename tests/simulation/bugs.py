"""Planted bugs: each a small patch of the real code. The simulation must find every one of them."""

from __future__ import annotations

from tests.simulation import bugs_of_gathering, bugs_of_journal, bugs_of_market
from tests.simulation.planting import BUGS

__all__ = ["BUGS", "bugs_of_gathering", "bugs_of_journal", "bugs_of_market"]
