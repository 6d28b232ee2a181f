"""Text in one form: what comes over the wire is brought into Unicode's NFC once: what looks alike is alike."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

COLUMNS = "Columns"
"""Messages whose names end so hold whole tables; their text is brought into form as columns (`fleet_codec`)."""


def normalise(message: Any) -> None:
    """Bring every text of a message into NFC, in place."""
    for name, repeated, is_text in _relevant(message.DESCRIPTOR):
        value = getattr(message, name)
        if is_text and repeated:
            _normalise_list(value)
        elif is_text:
            if not value.isascii():
                setattr(message, name, unicodedata.normalize("NFC", value))
        elif repeated:
            for inner in value:
                normalise(inner)
        elif message.HasField(name):
            normalise(value)


def _normalise_list(values: Any) -> None:
    if not "".join(values).isascii():
        values[:] = [unicodedata.normalize("NFC", value) for value in values]


@lru_cache(maxsize=256)
def _relevant(descriptor: Descriptor) -> tuple[tuple[str, bool, bool], ...]:
    """(name, repeated, is text) of the fields that are or hold text."""
    found = []
    for field in descriptor.fields:
        is_text = field.type == FieldDescriptor.TYPE_STRING
        inner = field.message_type
        if is_text or (inner is not None and not inner.name.endswith(COLUMNS) and _relevant(inner)):
            found.append((field.name, bool(field.is_repeated), is_text))
    return tuple(found)
