"""The directory of a plan: made before any work is done, and files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

from engine.planning import plan_files_schema as files


def open_directory(directory: Path) -> None:
    """Make the directory and prove that it can be written, before any work is done. Raises OSError."""
    (directory / files.INPUTS_FOLDER).mkdir(parents=True, exist_ok=True)
    probe = directory / ".writable"
    probe.write_bytes(b"")
    probe.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write under a temporary name beside `path`, then rename into place."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
