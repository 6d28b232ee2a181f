"""Racers: however many ask at once, a GPU goes to one of them (laws 1 and 2)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.service.loopback import CHANNEL_OPTIONS, Client, Loopback, node
from tests.service.test_leases import assert_counts_add_up

RACERS = 16


def race(loopback: Loopback, run: Callable[[Client, int], Any]) -> list[Any]:
    """What each racer got, an answer or a status code; each has a connection of its own and starts at the gun."""
    gun = threading.Barrier(RACERS)

    def racer(number: int) -> Any:
        options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        with grpc.insecure_channel(loopback.target, options=options) as channel:
            client = Client(channel, f"t{number}")
            client.stats()
            gun.wait(30)
            try:
                return run(client, number)
            except grpc.RpcError as error:
                return error.code()

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(racer, range(RACERS)))


def won(results: list[Any]) -> list[Any]:
    """The answers of those who got something; everybody else was refused properly."""
    codes = {result for result in results if isinstance(result, grpc.StatusCode)}
    assert codes <= {grpc.StatusCode.FAILED_PRECONDITION}
    return [result for result in results if not isinstance(result, grpc.StatusCode)]


@pytest.mark.parametrize(("free", "wanted"), [(16, 1), (15, 1), (1, 1), (8, 2), (40, 8), (20, 3), (32, 16)])
def test_the_last_gpus(empty: Loopback, free: int, wanted: int) -> None:
    """Laws 1 and 2: of 16 at once for the last GPUs exactly ⌊free / wanted⌋ succeed, each whole."""
    sizes = [8] * (free // 8) + [free % 8] * (free % 8 > 0)
    empty.client.load([node(f"n{i}", gpu_count=size) for i, size in enumerate(sizes)])
    leases = won(race(empty, lambda client, _: client.deploy(gpu_count=wanted)))
    assert len(leases) == min(RACERS, free // wanted)
    taken: Counter[str] = Counter()
    for lease in leases:
        assert sum(lease.placement.gpus) == wanted
        taken.update(dict(zip(lease.placement.node_ids, lease.placement.gpus, strict=True)))
    assert all(gpus <= 8 for gpus in taken.values())
    stats = assert_counts_add_up(empty.client)
    assert (stats.gpus_leased, stats.leases_active) == (wanted * len(leases), len(leases))


def test_one_quote(empty: Loopback) -> None:
    """Law 5: of 16 calls for one quote, without a key, exactly one becomes the lease."""
    empty.client.load([node("n1", gpu_count=1_000)])
    quote = empty.client.as_tenant("t").quote(gpu_count=1)
    leases = won(race(empty, lambda client, _: client.as_tenant("t").deploy_quote(quote.name)))
    assert len(leases) == 1
    assert assert_counts_add_up(empty.client).gpus_leased == 1


def test_quotes_for_the_same_gpus(empty: Loopback) -> None:
    """Laws 1 and 5: 16 quotes on GPUs for 4; exactly 4 can be deployed."""
    empty.client.load([node("n1", gpu_count=8)])
    quotes = [empty.client.as_tenant(f"t{i}").quote(gpu_count=2).name for i in range(RACERS)]
    leases = won(race(empty, lambda client, number: client.deploy_quote(quotes[number])))
    assert len(leases) == 4
    assert assert_counts_add_up(empty.client).gpus_free == 0


def test_one_release(empty: Loopback) -> None:
    """Laws 1 and 5: 16 releases of one lease give its GPUs back once, and all hear the same."""
    empty.client.load([node("n1", gpu_count=8)])
    owner = empty.client.as_tenant("t")
    lease, other = owner.deploy(gpu_count=4), owner.deploy(gpu_count=4)
    answers = won(race(empty, lambda client, _: client.as_tenant("t").release(lease.name)))
    assert len(answers) == RACERS
    assert all(answer == answers[0] for answer in answers)
    assert owner.lease(other.name).state == other.STATE_ACTIVE
    assert assert_counts_add_up(empty.client).gpus_leased == 4


def test_taking_and_giving_back(empty: Loopback) -> None:
    """Law 1: 16 that deploy and release over and over on 8 GPUs leave every GPU free, and nobody errs."""
    empty.client.load([node("n1", gpu_count=5), node("n2", gpu_count=3)])

    def run(client: Client, number: int) -> int:
        served = 0
        for round_ in range(6):
            try:
                lease = client.deploy(gpu_count=1 + (number + round_) % 4)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
                continue
            client.release(lease.name)
            served += 1
        return served

    results = race(empty, run)
    assert all(isinstance(served, int) for served in results), results
    assert sum(results) > 0
    assert assert_counts_add_up(empty.client).gpus_free == 8
