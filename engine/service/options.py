"""What the operator sets. Values come from the command line and, below it, from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engine.domain.errors import InvalidInput, Violation


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of `walras serve`; checked when born, InvalidInput lists what is wrong.

    `listen`: HOST:PORT, port 0 picks a free one. `dev`: identity is whatever the caller says; loopback only.
    """

    listen: str = "127.0.0.1:7070"
    data_dir: Path = Path("walras-data")
    dev: bool = False
    message_bytes_max: int = 64 * 1024
    deadline_s_max: float = 30.0
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        violations = []
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            violations.append(Violation("listen", f"must be HOST:PORT, got {self.listen!r}"))
        elif self.dev and host not in ("127.0.0.1", "localhost", "[::1]"):
            violations.append(Violation("listen", "--dev trusts every caller, so it listens on loopback only"))
        for name, low, high in (
            ("message_bytes_max", 1_024, 4 * 1024 * 1024),
            ("deadline_s_max", 0.1, 600),
            ("drain_s", 0, 600),
        ):
            if not low <= getattr(self, name) <= high:
                violations.append(Violation(name, f"must be between {low} and {high}"))
        if violations:
            raise InvalidInput(violations)


def read_config(path: Path) -> dict[str, Any]:
    """Options from a TOML file, by the names of `ServerOptions`; InvalidInput names file and field."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput([Violation(path.name, error.strerror or "cannot be read")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput([Violation(path.name, f"is not TOML: {error}")]) from None
    types = {"listen": str, "data_dir": str, "dev": bool, "message_bytes_max": int}
    violations = [
        Violation(f"{path.name} {name}", "is not an option")
        for name in values
        if name not in {field.name for field in fields(ServerOptions)}
    ]
    for name, value in values.items():
        wanted = types.get(name, (int, float))
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, wanted):
            violations.append(Violation(f"{path.name} {name}", f"has the wrong type {type(value).__name__}"))
    if violations:
        raise InvalidInput(violations)
    if "data_dir" in values:
        values["data_dir"] = Path(values["data_dir"])
    return values
