"""A real local Ray finds the same plan as one thread, also when its workers are killed."""

from __future__ import annotations

import builtins
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.domain.errors import InvalidInput, Unavailable
from engine.planning.on_ray import OnRay
from solvers.planning.workers import Threads
from tests.planning.parted_worlds import digest, plan_by


@pytest.fixture(scope="module")
def local_ray() -> Iterator[OnRay]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with OnRay("local", workers=2) as searchers:
        yield searchers


def test_ray_finds_what_one_thread_finds_even_if_its_workers_are_killed(local_ray: OnRay) -> None:
    """Law 10; the workers are stopped before the pass, so that they surely die over a part."""
    alone = digest(plan_by(Threads(1)))
    assert digest(plan_by(local_ray)) == alone
    victims = set(local_ray.pids)
    assert victims and os.getpid() not in victims
    local_ray.pids.clear()

    def kill(number: int) -> None:
        if number == 0:
            for pid in victims:
                os.kill(pid, signal.SIGSTOP)
                threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()

    assert digest(plan_by(local_ray, kill)) == alone
    assert local_ray.pids and not local_ray.pids & victims


@pytest.mark.parametrize("address", ["", "nowhere", "host:", ":1", "host:99999", "host:port"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"--ray: must be local, auto or HOST:PORT"):
        OnRay(address)


def test_an_address_where_nobody_listens_is_unavailable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match=r"no Ray at 127\.0\.0\.1:1: "), OnRay("127.0.0.1:1"):
        pass
    assert time.monotonic() - began_s < 10


def test_without_the_extra_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_ray(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(InvalidInput, match=r"--ray: Ray is not installed: pip install 'walras\[ray\]'"):
        OnRay("local")
