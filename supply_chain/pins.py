"""The versions that constraints.txt pins, and which of them the engine itself needs."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS, PROJECT = ROOT / "constraints.txt", ROOT / "pyproject.toml"


def pinned() -> dict[str, str]:
    """Version by canonical name."""
    lines = (line.partition("#")[0].strip() for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


def needed() -> dict[str, metadata.Distribution]:
    """What is installed because the engine needs it, directly or not, by canonical name; extras left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"])
    while waiting:
        requirement = Requirement(waiting.pop())
        key = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and key not in found:
            found[key] = metadata.distribution(requirement.name)
            waiting += found[key].requires or ()
    return dict(sorted(found.items()))
