"""Laws: a killed process, a full disk and a lost race lose nothing that was acknowledged."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from appender import BATCH_EVENTS, payload

from engine.domain.errors import Unavailable
from engine.journal import Journal, verify
from engine.journal.database import FILE_NAME

CHILD = [sys.executable, str(Path(__file__).with_name("appender.py"))]


def assert_holds(data_dir: Path, acknowledged: list[int]) -> None:
    """Reopened: everything acknowledged is there, every batch is whole, and the journal works again."""
    with Journal.open(data_dir) as journal:
        entries = list(journal.replay())
        assert len(entries) >= max(acknowledged)
        assert len(entries) % BATCH_EVENTS == 0
        assert all(entry.payload == payload(entry.sequence) for entry in entries)
        assert journal.append([b"again"], 1).result() == len(entries) + 1
    assert verify(data_dir).sequence == len(entries) + 1


@pytest.mark.parametrize("acknowledgements", [1, 40, 400])
def test_kill_9_loses_nothing_acknowledged(tmp_path: Path, acknowledgements: int) -> None:
    with subprocess.Popen([*CHILD, str(tmp_path), "8"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(acknowledgements)]
        with pytest.raises(Unavailable, match=f"in use by another engine .process {child.pid}"):
            Journal.open(tmp_path)
        assert verify(tmp_path).sequence >= acknowledged[-1], "a reader beside the engine"
        child.kill()
        acknowledged += [int(line) for line in child.stdout]
    assert_holds(tmp_path, acknowledged)


@pytest.mark.parametrize("concurrent_batches", [1, 32])
def test_a_full_disk_stops_the_journal_and_loses_nothing_acknowledged(
    tmp_path: Path, concurrent_batches: int
) -> None:
    command = [*CHILD, str(tmp_path), str(concurrent_batches), str(600_000)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    *acknowledged, last = child.stdout.splitlines()
    assert child.returncode == 0, child.stderr
    assert last.startswith("unavailable: the journal stopped: ")
    assert "INSERT" not in last
    assert len(acknowledged) > 10
    assert_holds(tmp_path, [int(line) for line in acknowledged])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("cannot mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_file_system_refuses_and_recovers_when_there_is_room(small_disk: Path) -> None:
    """Law 4 with a disk that is really full: not even the journal's own repair may need room it has not."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    data_dir = small_disk / "data"
    child = subprocess.run([*CHILD, str(data_dir), "8"], capture_output=True, text=True, timeout=60)
    *acknowledged, last = child.stdout.splitlines()
    assert last.startswith("unavailable: the journal stopped: ") and "full" in last
    assert verify(data_dir).sequence >= max(map(int, acknowledged)), "what is there can be read meanwhile"
    ballast.unlink()
    assert_holds(data_dir, [int(line) for line in acknowledged])


def test_a_sync_that_fails_stops_the_journal_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Law 4: the disk says EIO at one of its syncs; what it had synced before is all that was acknowledged."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    failing = [strace, "-f", "-o", "/dev/null", "-e", "inject=fdatasync,fsync:error=EIO:when=40+"]
    child = subprocess.run([*failing, *CHILD, str(tmp_path), "4"], capture_output=True, text=True, timeout=60)
    if not child.stdout:
        pytest.skip(f"strace cannot trace here: {child.stderr.strip()}")
    *acknowledged, last = child.stdout.splitlines()
    assert last == "unavailable: the journal stopped: disk I/O error"
    assert len(acknowledged) > 10
    assert_holds(tmp_path, [int(line) for line in acknowledged])


def test_a_writer_that_was_overtaken_stops(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append([b"ours"], 1).result()
        rival = sqlite3.connect(tmp_path / FILE_NAME)
        with rival:
            rival.execute("UPDATE journal_head SET sequence = 7")
        rival.close()
        receipt = journal.append([b"late"], 2)
        for _ in range(2):
            with pytest.raises(Unavailable, match="another writer"):
                receipt.result()
        assert journal.failure is not None
        assert journal.durable_sequence == 1
        with pytest.raises(Unavailable):
            journal.append([b"later"], 3)


def test_no_acknowledgement_leaves_before_the_disk_has_synced(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    tracing = [strace, "-f", "-y", "-s", "0", "-e", "trace=pwrite64,fdatasync,fsync,write", "-o", str(trace)]
    child = subprocess.run(
        [*tracing, *CHILD, str(tmp_path / "data"), "1", "300000"], capture_output=True, text=True, timeout=60
    )
    if not child.stdout:
        pytest.skip(f"strace cannot trace here: {child.stderr.strip()}")
    lines = trace.read_text().splitlines()
    *acknowledged, _unavailable = synced_before_each_line(lines)
    assert len(acknowledged) + 1 == len(child.stdout.splitlines()) > 10
    assert all(acknowledged)
    assert not any(synced_before_each_line([line for line in lines if "sync" not in line])), "a blind check"


def synced_before_each_line(trace: list[str]) -> list[bool]:
    """For each line on stdout: was the log synced, since the line before and since the log was last written?"""
    synced, syncing, answers = False, "", []
    for line in trace:
        thread, call = line.split(maxsplit=1)
        if re.match(r"pwrite64\(\d+<[^>]*-wal>", call):
            synced = False
        elif re.match(r"f(data)?sync\(\d+<[^>]*-wal>", call):
            syncing, synced = thread, call.endswith("= 0")
        elif thread == syncing and re.match(r"<\.\.\. f(data)?sync resumed>.*= 0", call):
            synced = True
        elif call.startswith("write(1<"):
            answers.append(synced)
            synced = False
    return answers
