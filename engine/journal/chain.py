"""The hash chain: hash_n = SHA-256(hash_{n-1} ‖ n ‖ recorded_at_us ‖ payload), hash_0 = 32 zero bytes.

n and recorded_at_us are 8 bytes, big endian, signed. All that stands before the payload has a fixed length,
so two different entries never feed the same bytes to the hash.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

_FIXED = struct.Struct(">qq")


class Entry(NamedTuple):
    """One event as recorded. `recorded_at_us` is microseconds since the epoch, UTC, as its writer said."""

    sequence: int
    recorded_at_us: int
    payload: bytes


class Head(NamedTuple):
    """The last entry's sequence and hash: it names everything the journal holds."""

    sequence: int
    hash: bytes


GENESIS = Head(0, bytes(32))
"""The head of an empty journal."""


def extend(head: Head, recorded_at_us: int, payload: bytes) -> Head:
    """The head after one more entry."""
    sequence = head.sequence + 1
    digest = hashlib.sha256(head.hash)
    digest.update(_FIXED.pack(sequence, recorded_at_us))
    digest.update(payload)
    return Head(sequence, digest.digest())
