"""One Hypothesis profile for all tests: the same examples everywhere, however busy. Slow files come first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from hypothesis import HealthCheck, settings

from tests.crash.nursery import Nursery, nursery
from tests.postgres import Cluster, cluster

settings.register_profile(
    "walras",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("walras")

grpc.aio.init_grpc_aio()
"""Kept open to the end: otherwise gRPC closes it whenever the last server is collected, in whatever test that is,
and waits there for ever for a server that a failed test did not stop.
"""

SLOWEST_FIRST = (
    "test_real_world.py",
    "planning/test_joint_law.py",
    "benchmarks/test_suite.py",
    "benchmarks/test_planning.py",
    "benchmarks/test_pressure.py",
    "solvers/test_exactness.py",
    "planning/test_on_ray.py",
    "planning/test_certificate.py",
    "solvers/planning/test_workers.py",
    "solvers/planning/test_clock.py",
    "planning/test_odd_inputs.py",
    "planning/test_reproducible.py",
)
"""Files that take longest. What is begun last must be short, or one of two processes waits for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files to the front; the rest stays in its order."""
    tests = Path(__file__).parent
    rank = {tests / name: number for number, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One PostgreSQL server for all tests of a process that do not ask what a power cut leaves."""
    with cluster(fsync="off") as running:
        yield running


@pytest.fixture(scope="session")
def servers() -> Iterator[Nursery]:
    """Where tests get real servers, in processes of their own, without waiting for them to load."""
    with nursery() as made:
        yield made
