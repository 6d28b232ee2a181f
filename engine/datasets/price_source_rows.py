"""From the bytes of a price list to its rows. Whatever the bytes are, the answer is rows or InvalidInput."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from engine.datasets.price_source_cells import Row
from engine.datasets.sources import Columns, read_parquet
from engine.domain.errors import InvalidInput, Violation

ReadRows = Callable[[Path], Sequence[Row]]


def shown(path: Path) -> str:
    """A file as violations name it: folder and name."""
    return f"{path.parent.name}/{path.name}"


def csv_rows(path: Path) -> Sequence[Row]:
    """Rows of a UTF-8 text table with a header line; a short row lacks its last cells."""

    def read() -> Sequence[Row]:
        text = path.read_bytes().decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))

    return _read(path, read)


def json_rows(path: Path) -> Sequence[Row]:
    """Rows of a JSON list of objects."""

    def read() -> Sequence[Row]:
        records = json.loads(path.read_bytes())
        if not (isinstance(records, list) and all(isinstance(record, dict) for record in records)):
            raise ValueError("not a list of objects")
        return records

    return _read(path, read)


def parquet_rows(columns: Columns) -> ReadRows:
    """A reader of the rows of a Parquet table with these columns."""

    def rows(path: Path) -> Sequence[Row]:
        try:
            return read_parquet(path, columns).to_dicts()
        except pl.exceptions.PanicException as panic:  # no Exception: polars panics on some broken files
            raise _unreadable(path, panic) from None

    return rows


def _read(path: Path, read: Callable[[], Sequence[Row]]) -> Sequence[Row]:
    try:
        return read()
    except FileNotFoundError:
        raise InvalidInput([Violation(shown(path), "no such file")]) from None
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> InvalidInput:
    first_line = str(error).partition("\n")[0][:120]
    return InvalidInput([Violation(shown(path), f"cannot be read: {first_line}")])
