"""What a load may do to the fleet that is there, and what a supplier learns of others by it (laws 8 and 9)."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from engine.domain.errors import InvalidInput
from engine.domain.limits import MAX_CERTIFICATIONS, MAX_SUPPLIER_CERTIFICATIONS
from engine.domain.table_rules import MAX_LISTED
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.market import commands
from engine.market.apply import apply
from engine.market.decide import decide
from engine.market.state import MarketState
from tests.market.books import NoBook
from tests.service.loopback import Row, node

SECRET = {"region": "secret-region", "country": "DE", "latitude": 12.345, "longitude": 67.891}


class Fleet:
    """Loads of suppliers; `refused`: (field, text) of what is wrong with one."""

    def __init__(self) -> None:
        self.state = MarketState()

    def load(self, rows: list[Row], supplier_id: str | None = None) -> None:
        nodes, rtt = pl.DataFrame(rows, schema=FLEET_SCHEMA), pl.DataFrame(schema=RTT_SCHEMA)
        for event in decide(self.state, commands.LoadFleet(nodes, rtt, None, supplier_id), 1, NoBook()):
            apply(self.state, event)

    def refused(self, rows: list[Row], supplier_id: str | None = None) -> list[tuple[str, str]]:
        before = self.state.hash()
        with pytest.raises(InvalidInput) as bad:
            self.load(rows, supplier_id)
        assert self.state.hash() == before
        return [(each.field, each.description) for each in bad.value.violations]


def with_kinds(supplier_id: str, *kinds: str, name: str = "") -> Row:
    return node(name or f"of-{supplier_id}", supplier_id=supplier_id, certifications=list(kinds))


def some_kinds(count: int, prefix: str) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.mark.parametrize("supplier_id", ["s2", None])
@pytest.mark.parametrize("column", SECRET)
def test_who_contradicts_a_site_learns_nothing_of_it(column: str, supplier_id: str | None) -> None:
    """Law 8: row and column are those of the load, the value is what was sent; what others said is not told."""
    fleet = Fleet()
    fleet.load([node(f"a{number}", supplier_id="s1", **SECRET) for number in range(30)])
    sent: dict[str, Any] = {**SECRET, column: {"region": "r1", "country": "US"}.get(column, 1.5)}
    rows = [node("b0", supplier_id="s2", site_id="fra1"), node("b1", supplier_id="s2", **sent)]
    ((field, told),) = fleet.refused(rows, supplier_id)
    assert field == f"nodes row 1 column {column}"
    assert told == f"{sent[column]!r} differs from other nodes of the same site_id"
    assert str(SECRET[column]) not in told


def test_a_load_moves_a_site_as_a_whole() -> None:
    """Law: whoever loads all nodes of a site puts it where it says; a part of them is refused, row by row."""
    fleet = Fleet()
    rows = [node(f"n{number:02d}", **SECRET) for number in range(MAX_LISTED + 5)]
    fleet.load(rows)
    moved = [{**row, "latitude": 2.0} for row in rows]
    found = fleet.refused(moved[1:])
    assert [field for field, _ in found[:2]] == ["nodes row 0 column latitude", "nodes row 1 column latitude"]
    assert len(found) == MAX_LISTED + 1 and found[-1][1].startswith("4 more rows")
    fleet.load(moved)
    assert set(fleet.state.inventory.frame["latitude"].to_list()) == {2.0}


def test_a_supplier_cannot_take_all_kinds_of_certifications() -> None:
    """Law 8: what one supplier names leaves room for others; neither many nodes nor many loads help."""
    fleet = Fleet()
    most = some_kinds(MAX_SUPPLIER_CERTIFICATIONS, "x")
    ((field, told),) = fleet.refused([with_kinds("s1", *some_kinds(MAX_CERTIFICATIONS, "x"))], "s1")
    assert field == "nodes column certifications" and f"at most {MAX_SUPPLIER_CERTIFICATIONS}" in told
    fleet.load([with_kinds("s1", *most)], "s1")
    fleet.refused([with_kinds("s1", "one-more", name="another")], "s1")
    fleet.load([with_kinds("s1", "instead", *most[1:])], "s1")
    fleet.load([with_kinds("s2", "HIPAA", "TEE")], "s2")


def test_an_operator_is_held_to_the_fleets_limit_alone() -> None:
    """Law 9: what it loads for a supplier may be more, and that supplier goes on loading what it has."""
    fleet = Fleet()
    kinds = some_kinds(MAX_CERTIFICATIONS, "x")
    fleet.load([with_kinds("s1", *kinds)])
    fleet.load([with_kinds("s1", *kinds[:20]), with_kinds("s1", *kinds[20:], name="another")], "s1")
    ((field, told),) = fleet.refused([with_kinds("s2", "HIPAA")], "s2")
    assert field == "nodes column certifications" and str(MAX_CERTIFICATIONS) in told
    assert fleet.refused([with_kinds("s2", "HIPAA")]) == [(field, told)]
    fleet.load([with_kinds("s2", kinds[0])], "s2")
    fleet.load([with_kinds("s1"), with_kinds("s1", name="another")], "s1")
    fleet.load([with_kinds("s2", "HIPAA")], "s2")
