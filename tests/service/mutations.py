"""Messages that are nearly right, made from the descriptors: boundary values for every field, and damage."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.service.described import field_paths, is_repeated, message_class, set_path

NAN, INF = float("nan"), float("inf")
WHOLE = [0, 1, -1, 2, 127, 128, 10_000_001, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63)]
REAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-320, 1e308, -1e308, NAN, INF, -INF, 90.0000001, 180.0, 1.0000001]
TEXT = [
    *("", "a", " a", "a ", "a" * 128, "a" * 129, "a" * 20_000, "\x00", "a\x07b", "\n", "%s%n", "../../etc/passwd"),
    *(
        "e\u0301",
        "\u202etxt",
        "\ufeff",
        "\U0001f600" * 128,
        "\u0000/",
        "leases/",
        "quotes/q",
        "nodes/h1",
        "plans/p-1-1",
    ),
    *("leases/l-0000000001", "H100", "us-east", "SECURE", "DOWN", "9" * 30, "%%%", "AA==", "' OR 1=1 --"),
]
INTEGERS = {
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
}


def boundary_values(field: FieldDescriptor) -> list[Any]:
    """What a field of that type is tried with; a repeated one is also tried with too many of it."""
    values: list[Any]
    if field.type == FieldDescriptor.TYPE_BOOL:
        values = [False, True]
    elif field.type in INTEGERS:
        low, high = INTEGERS[field.type]
        values = [value for value in WHOLE if low <= value <= high]
    elif field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        values = REAL
    elif field.type == FieldDescriptor.TYPE_BYTES:
        values = [b"", b"\x00" * 64, b"\xff" * 2_000]
    else:
        values = TEXT
    return [*values, [values[1]] * 1_001, [values[0]] * 3] if is_repeated(field) else values


def bounded(descriptor: Descriptor, base: bytes) -> Iterator[tuple[str, Any, bytes]]:
    """(path, value, message) of an honest message with one field at each of its boundary values."""
    for path, field in field_paths(descriptor):
        for value in boundary_values(field):
            message = message_class(descriptor).FromString(base)
            set_path(message, path, value)
            yield path, value, message.SerializeToString()


class Mutator:
    """Draws messages of one kind; the same seed draws the same ones."""

    def __init__(self, descriptor: Descriptor, bases: list[bytes], draw: random.Random) -> None:
        self._draw, self._bases = draw, bases
        self._kind = message_class(descriptor)
        self._paths = list(field_paths(descriptor))

    def message(self) -> bytes:
        """An honest message after one to four changes: of fields to their boundaries, of bytes to anything."""
        payload = self._draw.choice(self._bases)
        if self._paths and self._draw.random() < 0.7:
            message = self._kind.FromString(payload)
            for _ in range(self._draw.randint(1, 3)):
                path, field = self._draw.choice(self._paths)
                set_path(message, path, self._draw.choice(boundary_values(field)))
            payload = message.SerializeToString()
        return self._damaged(payload) if self._draw.random() < 0.5 else payload

    def _damaged(self, payload: bytes) -> bytes:
        draw, data = self._draw, bytearray(payload)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(data) + 1)
            match draw.randrange(6):
                case 0 if at < len(data):
                    data[at] ^= 1 << draw.randrange(8)
                case 1:
                    data[at:at] = draw.randbytes(draw.randint(1, 8))
                case 2:
                    del data[at : at + draw.randint(1, 8)]
                case 3:
                    data += data[at : at + 64]
                case 4:
                    data[at:at] = NESTED[: 2 * draw.randint(1, 150)]
                case _:
                    data = data[:at]
        return bytes(data)


NESTED = bytes([0x0A, 0x7F]) * 150
"""Starts of a message inside a message, 150 deep."""
