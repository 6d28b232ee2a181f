"""`kill -9` in the middle of concurrent calls loses nothing that was acknowledged (laws 1, 2 and 4)."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from engine.cli.server_process import server_process
from engine.service.verify import verify_journal
from tests.full_size import size
from tests.service.loopback import CHANNEL_OPTIONS, Client, node
from tests.service.test_leases import assert_counts_add_up

CLIENTS = 6
GPUS_PER_NODE, NODES = 8, 12
CALLS_BEFORE_THE_KILL = (90, 40, 150)[: size(1, 3)]
"""A round each: after so many answers the server is killed, its clients still calling."""
UNKNOWN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclass
class Diary:
    """What a client was told, and what it asked without hearing the end."""

    leases: dict[str, Any] = field(default_factory=dict)
    released: dict[str, Any] = field(default_factory=dict)
    unheard_deploys: dict[str, dict[str, Any]] = field(default_factory=dict)
    unheard_releases: set[str] = field(default_factory=set)

    @property
    def held(self) -> list[str]:
        """Leases that were acknowledged and that nobody has tried to release."""
        return [name for name in self.leases if name not in self.released and name not in self.unheard_releases]


class Killer:
    """Counts answers of all clients; at the agreed one it kills the server."""

    def __init__(self, pid: int, answers: int) -> None:
        self._pid, self._left, self._lock = pid, answers, threading.Lock()

    def answered(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(self._pid, signal.SIGKILL)


def connect(target: str, tenant: str) -> Client:
    options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    return Client(grpc.insecure_channel(target, options=options), tenant)


def call_until_the_end(client: Client, diary: Diary, seed: str, killer: Killer) -> None:
    """Deploy and release at random until the server is gone."""
    draw = random.Random(seed)
    for number in range(10_000):
        key, name = f"{seed}-{number}", ""
        wanted = {"gpu_count": draw.choice((1, 2, 3, 5, 8, 12)), "duration_s": 86_400}
        if len(diary.held) > 3 or (diary.held and draw.random() < 0.4):
            name = draw.choice(diary.held)
        try:
            if name:
                diary.released[name] = client.release(name, key=key)
            else:
                lease = client.deploy(key=key, **wanted)
                diary.leases[lease.name] = lease
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                killer.answered()
                continue
            assert error.code() in UNKNOWN, error
            if name:
                diary.unheard_releases.add(name)
            else:
                diary.unheard_deploys[key] = wanted
            return
        killer.answered()
    raise AssertionError("nobody killed the server")


def assert_nothing_was_lost(client: Client, diary: Diary) -> Counter[str]:
    """Law 4, for one tenant: what it was told is so, what it did not hear is whole or absent; its GPUs by node."""
    listed = {}
    token = ""
    while True:
        page = client.leases(show_ended=True, page_size=50, page_token=token)
        listed |= {lease.name: lease for lease in page.leases}
        token = page.next_page_token
        if not token:
            break
    unheard = listed.keys() - diary.leases.keys()
    assert diary.leases.keys() <= listed.keys(), "an acknowledged lease is gone"
    assert len(unheard) <= len(diary.unheard_deploys), "a lease that nobody asked for"
    for key, wanted in diary.unheard_deploys.items():
        if unheard:  # the outcome was unknown: its key resolves it
            (name,) = unheard
            assert client.deploy(key=key, **wanted).name == name
            diary.leases[name] = listed[name]
    diary.unheard_deploys.clear()
    held: Counter[str] = Counter()
    for name, told in diary.leases.items():
        lease = client.lease(name)
        assert (lease.placement, lease.price, lease.request_id) == (
            told.placement if told.placement.node_ids else lease.placement,
            told.price,
            told.request_id,
        )
        assert sum(lease.placement.gpus) == lease.gpu_count, "a gang is whole"
        if name in diary.released:
            assert lease == diary.released[name], "an acknowledged release came undone"
        elif name in diary.unheard_releases:
            if lease.state == lease.STATE_ENDED:
                diary.released[name] = lease
        else:
            assert (lease.state, lease.end_reason) == (lease.STATE_ACTIVE, ""), "an acknowledged lease ended"
        if lease.state == lease.STATE_ACTIVE:
            held.update(dict(zip(lease.placement.node_ids, lease.placement.gpus, strict=True)))
    diary.unheard_releases.clear()
    return held


def assert_no_gpu_is_leased_twice(client: Client, held: Counter[str]) -> None:
    """Law 1: what all tenants hold on a node is what the engine counts there, and fits."""
    for each in client.nodes(page_size=1_000).nodes:
        assert each.gpu_leased == held[each.node_id]
        assert each.gpu_leased + each.gpu_free == each.gpu_count
    assert assert_counts_add_up(client).gpus_leased == held.total()


def test_kill_9_in_the_middle(tmp_path: Path) -> None:
    """Laws 1, 2 and 4: after each of several kills every acknowledged lease and release is there."""
    data_dir = tmp_path / "data"
    diaries = {f"t{number}": Diary() for number in range(CLIENTS)}
    loaded = False
    for round_, answers in enumerate((*CALLS_BEFORE_THE_KILL, None)):
        with server_process(data_dir, tmp_path / f"engine-{round_}.log") as server:
            target = server.target()
            clients = {tenant: connect(target, tenant) for tenant in diaries}
            if not loaded:
                clients["t0"].load([node(f"n{i:02d}", gpu_count=GPUS_PER_NODE) for i in range(NODES)])
                loaded = True
            held: Counter[str] = Counter()
            for tenant, diary in diaries.items():
                held += assert_nothing_was_lost(clients[tenant], diary)
            assert_no_gpu_is_leased_twice(clients["t0"], held)
            if answers is not None:
                killer = Killer(server.pid, answers)
                with ThreadPoolExecutor(CLIENTS) as pool:
                    running = [
                        pool.submit(call_until_the_end, clients[tenant], diary, f"{round_}-{tenant}", killer)
                        for tenant, diary in diaries.items()
                    ]
                    for each in running:
                        each.result()
                assert server.stop() == -signal.SIGKILL
                verify_journal(data_dir)
            for client in clients.values():
                client.channel.close()
    told = [name for diary in diaries.values() for name in diary.leases]
    assert len(set(told)) == len(told)
    assert any(diary.released for diary in diaries.values())
