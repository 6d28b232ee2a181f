"""What is taken back before it expires: a text file, read again when it changes.

One entry a line: the `jti` of a token, `kid:` and the id of a signing key, `cert:` and the SHA-256 of a client
certificate. `#` begins a remark.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("walras.trust")
LOOK_EVERY_S = 1.0


class Revocations:
    """The list. A file that has gone missing or cannot be read leaves what was read before in force."""

    def __init__(self, path: Path | None, clock_s: Callable[[], float]) -> None:
        self._path, self._clock_s = path, clock_s
        self._revoked: frozenset[str] = frozenset()
        self._looked_at_s, self._seen = float("-inf"), (0, 0)

    def __contains__(self, entry: str) -> bool:
        self._look()
        return entry in self._revoked

    def _look(self) -> None:
        now_s = self._clock_s()
        if self._path is None or now_s < self._looked_at_s + LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._revoked, self._seen = _entries(self._path.read_text(encoding="utf-8")), seen
        except (OSError, UnicodeDecodeError) as error:
            log.warning("the revocation list cannot be read, what it said before stays: %s", type(error).__name__)


def _entries(text: str) -> frozenset[str]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(line for line in lines if line)
