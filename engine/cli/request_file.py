"""A cluster request in a JSON file: one object with the contract's field names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.domain.errors import InvalidInput, Violation

MAX_FILE_BYTES = 1024 * 1024
"""Far above the 64 KiB that a call may carry; below what would hurt to parse."""
NOT_THE_CALLERS = {
    "tenant_id": "comes from the credential of the call, never from the request",
    "submitted_at_us": "is set by the engine",
}


def read_request_file(path: Path) -> dict[str, Any]:
    """Raw fields, not yet checked one by one. InvalidInput names the file and what is wrong with it as a file."""
    repeated: list[str] = []
    raw = _parse(path, repeated)
    if not isinstance(raw, dict):
        raise InvalidInput([Violation(path.name, f"must hold one JSON object, got {type(raw).__name__}")])
    if repeated:
        raise InvalidInput([Violation(f"{path.name} field {name}", "is given twice") for name in repeated])
    return raw


def _parse(path: Path, repeated: list[str]) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items]
        repeated.extend(sorted({name for name in names if names.count(name) > 1}))
        return dict(items)

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput([Violation(path.name, f"has more than {MAX_FILE_BYTES:,} bytes")])
        return json.loads(path.read_bytes(), object_pairs_hook=pairs)
    except OSError as error:
        raise InvalidInput([Violation(path.name, f"cannot be read: {error.strerror}")]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput([Violation(path.name, f"is not JSON: {str(error)[:120]}")]) from None
