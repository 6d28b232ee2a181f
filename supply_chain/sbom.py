"""`make sbom`: a CycloneDX bill of materials of what is installed for the engine, by its own metadata."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib import metadata
from typing import Any

from supply_chain.pins import needed


def bill() -> dict[str, Any]:
    """The document. The same environment gives the same bytes: no time, no random serial number."""
    components = [_component(name, distribution) for name, distribution in needed().items()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component("walras", metadata.distribution("walras"))},
        "components": components,
    }


def _component(name: str, distribution: metadata.Distribution) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": distribution.version,
        "purl": f"pkg:pypi/{name}@{distribution.version}",
    }
    licence = distribution.metadata.get("License-Expression")
    if licence:
        described["licenses"] = [{"expression": licence}]
    record = distribution.read_text("RECORD")
    if record:
        content = hashlib.sha256(record.encode()).hexdigest()
        described["properties"] = [{"name": "walras:sha256-of-RECORD", "value": content}]
    return described


def main() -> int:
    """Print it."""
    json.dump(bill(), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
