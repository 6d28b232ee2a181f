"""The demo tells its story and leaves nothing behind, also when it is stopped in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

DEMO = [sys.executable, "-m", "engine.cli", "demo", "--gpus", "100000"]
TIMEOUT_S = 150
"""Kernels may have to be compiled first."""


def children(place: Path) -> list[str]:
    """Command lines of running engines whose data lies below `place`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(place) in line and "serve" in line:
            found.append(line)
    return found


def test_the_story_in_twelve_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        DEMO, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    story = done.stdout.partition("the story in twelve lines")[2]
    assert re.findall(r"^ *(\d+)\. ", story, re.MULTILINE) == [str(number) for number in range(1, 13)]
    assert "100,000 GPUs" in story
    assert re.search(r"1,000 more requests planned together .* [1-9]\d* served", story)
    assert re.search(r"proven within 0\.\d+ % of the best plan; [1-9]\d* leases committed", story)
    assert list(tmp_path.iterdir()) == [] and children(tmp_path) == []


def test_stopped_in_the_middle_it_cleans_up(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as demo:
        deadline = time.monotonic() + 20
        while not children(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert children(tmp_path)
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=20)
    assert demo.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == [] and children(tmp_path) == []
