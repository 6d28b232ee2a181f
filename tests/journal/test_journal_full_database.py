"""Law 4 when PostgreSQL's disk is full: writes are refused, and go on when there is room, with nothing lost."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.domain.errors import Unavailable
from engine.journal import Journal, Limits, replay_files, verify
from tests.postgres import Cluster

DISK, BALLAST_BYTES = "100m", 40 << 20
WAIT_S = 60.0


@pytest.fixture
def full_soon() -> Iterator[tuple[Cluster, Path]]:
    """A cluster on a small file system, and a file there whose removal makes room."""
    place = Path(tempfile.mkdtemp(prefix="walras-pg-full-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], check=False).returncode:
        place.rmdir()
        pytest.skip("cannot mount a file system here")
    ballast = place / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    cluster = Cluster(place / "pg")
    try:
        place.chmod(0o755)
        cluster.initialise()
        cluster.start()
        yield cluster, ballast
    finally:
        cluster.crash()
        subprocess.run(["umount", str(place)], check=True)
        shutil.rmtree(place)


def test_a_full_database_refuses_and_recovers(full_soon: tuple[Cluster, Path]) -> None:
    cluster, ballast = full_soon
    event, acknowledged = random.Random(1).randbytes(1 << 20), 0  # nothing that PostgreSQL could compress
    url = cluster.new_url()
    with Journal.open_url(url, Limits(stall_s=1)) as journal:
        ends_s = time.monotonic() + WAIT_S
        with pytest.raises((Unavailable, TimeoutError)):
            while time.monotonic() < ends_s:
                acknowledged = journal.append([event], 1).result(2.0)
        assert acknowledged > 2
        ballast.unlink()
        if not cluster.is_running:
            cluster.start()
        while True:
            try:
                last = journal.append([b"room"], 2).result(WAIT_S)
                break
            except Unavailable:
                assert time.monotonic() < ends_s + WAIT_S
                time.sleep(0.1)
        assert journal.failure is None
    entries = list(replay_files(url))
    assert all(entry.payload == event for entry in entries[:acknowledged])
    assert entries[-1].payload == b"room" and entries[-1].sequence == last == verify(url).sequence
