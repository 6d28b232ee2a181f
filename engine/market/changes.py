"""The latest changes of leases and orders by version, so that a stream can go on where it was broken off.

Bounded: what is older is gone, and whoever wants to go on from there is told to list again. It is derived from the
events alone, so a replay gives the same; no reply but a stream depends on it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import msgspec

CHANGES_MIN = 65_536
LEASE, ORDER = "LEASE", "ORDER"


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Version of the state that an object of a tenant changed at. `kind`: LEASE or ORDER."""

    version: int
    kind: str
    tenant_id: str
    subject: str


@dataclass(slots=True)
class Changes:
    """At least the last `least` changes, at most twice as many; none after version `complete_from` is missing."""

    least: int = CHANGES_MIN
    complete_from: int = 0
    kept: list[Change] = field(default_factory=list)

    def note(self, version: int, kind: str, tenant_id: str, subject: str) -> None:
        """An object changed; versions never fall."""
        self.kept.append(Change(version, kind, tenant_id, subject))
        if len(self.kept) >= 2 * self.least:
            self.complete_from = self.kept[self.least - 1].version
            del self.kept[: self.least]

    def after(self, version: int, most: int) -> list[Change]:
        """The first `most` changes after a version, which must not lie before `complete_from`."""
        assert version >= self.complete_from
        start = bisect_right(self.kept, version, key=lambda change: change.version)
        return self.kept[start : start + most]
