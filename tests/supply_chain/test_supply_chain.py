"""What the engine is made of is pinned, listed and compared with advisories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supply_chain import advisories
from supply_chain.pins import needed, pinned
from supply_chain.sbom import bill


def test_everything_the_engine_needs_is_pinned_as_installed() -> None:
    """No version is left to a resolver, and what runs here is what is pinned."""
    pins = pinned()
    assert {name: each.version for name, each in needed().items()} == {name: pins.get(name) for name in needed()}
    assert {"pyjwt", "cryptography", "grpcio", "protobuf"} <= set(needed())


def test_the_bill_lists_all_of_it() -> None:
    document = bill()
    assert {each["name"] for each in document["components"]} == set(needed())
    assert all(each["purl"].endswith(each["version"]) for each in document["components"])
    assert json.dumps(bill()) == json.dumps(document)


def advisory(**entry: Any) -> dict[str, Any]:
    return {
        "id": "T-1",
        "summary": "s",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "Py_JWT"}, **entry}],
    }


def between(*events: dict[str, str]) -> dict[str, Any]:
    return advisory(ranges=[{"type": "ECOSYSTEM", "events": list(events)}])


@pytest.mark.parametrize(
    ("given", "hit"),
    [
        (between({"introduced": "0"}, {"fixed": "3.0"}), True),
        (between({"introduced": "0"}, {"fixed": "2.15.1"}), False),
        (between({"introduced": "2.15.1"}), True),
        (between({"introduced": "2.16"}), False),
        (between({"introduced": "0"}, {"last_affected": "2.15.1"}), True),
        (between({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "2.15.2"}), True),
        (between({"introduced": "0"}, {"fixed": "odd version"}), True),
        (advisory(versions=["2.15.1"]), True),
        (advisory(versions=["2.15.0"]), False),
        ({**advisory(versions=["2.15.1"]), "withdrawn": "2026-01-01"}, False),
    ],
)
def test_which_versions_an_advisory_is_about(given: dict[str, Any], hit: bool) -> None:
    assert bool(list(advisories.affected([given], {"py-jwt": "2.15.1"}))) is hit


def test_without_a_snapshot_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A skip is told; an empty snapshot is an error, not a clean bill; a hit fails."""
    monkeypatch.delenv(advisories.SNAPSHOT, raising=False)
    assert advisories.main() == 0
    assert "SKIPPED" in capsys.readouterr().out
    monkeypatch.setenv(advisories.SNAPSHOT, str(tmp_path))
    assert advisories.main() == 2
    (tmp_path / "a.json").write_text(json.dumps(advisory(versions=["0"])), encoding="utf-8")
    assert advisories.main() == 0
    pins = pinned()
    hit = {
        "id": "T-2",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "pyjwt"}, "versions": [pins["pyjwt"]]}],
    }
    (tmp_path / "b.json").write_text(json.dumps(hit), encoding="utf-8")
    assert advisories.main() == 1
