"""Engines behind real gRPC on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.loopback import Client, Loopback, running, small_fleet


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """An engine with the small fleet, for tests that change nothing."""
    for loopback in running(tmp_path_factory.mktemp("shared")):
        loopback.client.load(small_fleet())
        yield loopback


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Loopback]:
    """An engine of the test's own, without a fleet."""
    yield from running(tmp_path / "engine")


@pytest.fixture
def loopback(empty: Loopback) -> Loopback:
    """An engine of the test's own, with the small fleet."""
    empty.client.load(small_fleet())
    return empty


@pytest.fixture
def client(loopback: Loopback) -> Client:
    """Alice, at an engine of the test's own."""
    return loopback.client


@pytest.fixture
def reopened(loopback: Loopback) -> Iterator[Callable[[], Client]]:
    """Stop the engine, start another on the same directory; its client."""
    started: list[Loopback] = []

    def reopen() -> Client:
        loopback.channel.close()
        loopback.run(loopback.server.drain(0))
        loopback.engine.close()
        started.append(Loopback(loopback.data_dir, loopback.clock))
        return started[-1].client

    yield reopen
    for each in started:
        each.close()
