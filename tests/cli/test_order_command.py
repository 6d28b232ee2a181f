"""`walras order` and `walras lease watch` against a real engine, which serves orders by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Walras

LIMIT = ("--max-price-micro-usd-per-gpu-hour", 9_000_000)


@pytest.fixture
def loaded(walras: Walras, target: str, fleet_file: Path) -> str:
    """The engine with forty nodes of eight H100."""
    assert walras("fleet", "load", fleet_file, "--target", target, "--json").code == 0
    return target


def following(target: str, kind: str, version: int) -> Any:
    """`walras KIND watch --json` of the tenant `waiting`, in a process of its own."""
    command = [sys.executable, "-m", "engine.cli", kind, "watch", "--json", "--after-version", str(version)]
    command += ["--target", target, "--tenant", "waiting"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_place_watch_get_list_cancel(walras: Walras, loaded: str) -> None:
    """An order is placed, served by the engine itself, followed, listed; another is cancelled."""
    here = ("--target", loaded, "--tenant", "waiting", "--json")
    version = json.loads(walras("top", *here).out)["state_version"]
    asked = ("--gpu-model", "H100", "--gpu-count", 16, *LIMIT)
    placed = walras("order", "place", *asked, "--ttl-s", 600, "--priority", 2, *here)
    assert placed.code == 0, placed.err
    order = json.loads(placed.out)
    assert (order["state"], order["priority"]) == ("STATE_OPEN", 2)
    with following(loaded, "order", version) as watch:
        changes: list[Any] = []
        for line in watch.stdout:
            changes.append(json.loads(line))
            if (changes[-1]["order"] or {}).get("state") == "STATE_FILLED":
                break
        watch.terminate()
    assert changes[0]["order"] is None and changes[-1]["order"]["order_id"] == order["order_id"]
    shown = json.loads(walras("order", "get", order["order_id"], *here).out)
    with following(loaded, "lease", version) as watch:
        seen = [json.loads(watch.stdout.readline()) for _ in range(2)]
        watch.terminate()
    assert seen[1]["lease"]["name"] == shown["lease"] and seen[1]["lease"]["order"] == order["name"]
    waiting = json.loads(walras("order", "place", "--gpu-count", 1_000_000, *LIMIT, *here).out)
    listed = json.loads(walras("order", "list", *here).out)["orders"]
    assert [each["order_id"] for each in listed] == [waiting["order_id"]]
    assert len(json.loads(walras("order", "list", "--show-ended", *here).out)["orders"]) == 2
    cancelled = json.loads(walras("order", "cancel", waiting["name"], *here).out)
    assert cancelled["state"] == "STATE_CANCELLED"
    assert "CANCELLED" in walras("order", "list", "--show-ended", *here[:-1]).out
    assert walras("lease", "release", shown["lease"], *here).code == 0


def test_what_is_wrong_is_listed(walras: Walras, loaded: str) -> None:
    """Law 9: bad input is exit 2 with every violation; what is not there is exit 1."""
    run = walras("order", "place", "--gpu-count", 8, "--ttl-s", 0, "--priority", 101, "--target", loaded)
    assert run.code == 2
    assert all(name in run.err for name in ("max_price_micro_usd_per_gpu_hour", "ttl_s", "priority"))
    assert walras("order", "get", "o-0", "--target", loaded).code == 1
    run = walras("order", "watch", "--after-version", 10**12, "--target", loaded)
    assert run.code == 2 and "VERSION_OUT_OF_RANGE" in run.err
