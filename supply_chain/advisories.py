"""`make advisories`: the pinned versions against a snapshot of OSV advisories; exit 1 if one is affected.

The snapshot is a folder of OSV JSON files, named by $WALRAS_ADVISORIES (for PyPI: the unpacked `all.zip` that OSV
publishes). Nothing is fetched. Without a snapshot it says so and is skipped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from supply_chain.pins import pinned

SNAPSHOT = "WALRAS_ADVISORIES"


def affected(advisories: Iterable[dict[str, Any]], pins: dict[str, str]) -> Iterator[str]:
    """A line for each pin that an advisory names, withdrawn advisories left out."""
    for advisory in advisories:
        for each in () if advisory.get("withdrawn") else advisory.get("affected", ()):
            package = each.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") == "PyPI" and name in pins and _concerns(each, pins[name]):
                yield f"{name}=={pins[name]}: {advisory.get('id')}: {advisory.get('summary', 'no summary')}"


def _concerns(entry: dict[str, Any], version: str) -> bool:
    ranges = (each for each in entry.get("ranges", ()) if each.get("type") == "ECOSYSTEM")
    return version in entry.get("versions", ()) or any(_inside(each["events"], version) for each in ranges)


def _inside(events: list[dict[str, str]], version: str) -> bool:
    """Whether a version is between an `introduced` and what ends it; events come in order."""
    here, inside = Version(version), False
    for event in events:
        try:
            if "introduced" in event:
                inside = inside or event["introduced"] == "0" or here >= Version(event["introduced"])
            elif "fixed" in event:
                inside = inside and here < Version(event["fixed"])
            elif "last_affected" in event:
                inside = inside and here <= Version(event["last_affected"])
        except InvalidVersion:
            return True  # what cannot be compared is looked at by a person
    return inside


def _snapshot(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def main() -> int:
    """Say what is affected."""
    folder = os.environ.get(SNAPSHOT)
    if not folder:
        sys.stdout.write(f"advisories: SKIPPED, no snapshot; set {SNAPSHOT} to a folder of OSV files\n")
        return 0
    if not any(Path(folder).rglob("*.json")):
        sys.stderr.write(f"advisories: {folder} holds no OSV files\n")
        return 2
    found = list(affected(_snapshot(Path(folder)), pinned()))
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.stdout.write(f"advisories: {len(found)} against {len(pinned())} pins\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
