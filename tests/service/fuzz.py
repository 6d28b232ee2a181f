"""`make fuzz`: mutated messages of every method, parsed by the million and handled by the ten thousand.

Nothing may crash, no answer may have a status outside the documented table, and no callback may hold the event
loop for more than 50 ms of its thread's CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from engine.service.calls import Malformed, _tolerant
from tests.service.access_rows import ROWS
from tests.service.access_world import NAMES, AccessWorld
from tests.service.described import all_methods, invoke, message_class
from tests.service.loopback import TIMEOUT_S
from tests.service.mutations import Mutator

CPU_S_MAX = 0.050
IN_FLIGHT = 32
WATCHED_S = 0.1
DOCUMENTED = {
    *(grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND),
    *(grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.PERMISSION_DENIED),
    grpc.StatusCode.OUT_OF_RANGE,
    *(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE),
}
"""What README documents; INTERNAL, UNKNOWN and DATA_LOSS would each be a fault here."""


class Held:
    """The longest that a callback held the loop, in CPU seconds of its thread."""

    def __init__(self) -> None:
        self.longest_s, self.by, self.callbacks = 0.0, "", 0

    def note(self, spent_s: float, what: Any) -> None:
        self.callbacks += 1
        if spent_s > self.longest_s:
            self.longest_s, self.by = spent_s, _told(what)


def _told(handle: Any) -> str:
    """The callback; of a task, where it stands now."""
    task = getattr(handle._callback, "__self__", None)
    stack = task.get_stack(limit=1) if isinstance(task, asyncio.Task) else []
    return f"{handle!r} {stack}"[:600]


@contextmanager
def watched_callbacks() -> Iterator[Held]:
    """Measure every callback of every event loop of this process."""
    held, run = Held(), asyncio.events.Handle._run

    def measured(handle: Any) -> None:
        started_s = time.thread_time()
        run(handle)
        held.note(time.thread_time() - started_s, handle)

    asyncio.events.Handle._run = measured  # type: ignore[method-assign]
    try:
        yield held
    finally:
        asyncio.events.Handle._run = run  # type: ignore[method-assign]


def mutators(world: AccessWorld, draw: random.Random) -> dict[str, Mutator]:
    """One for each method, around an honest message and an empty one."""
    made = {}
    for method, row in ROWS.items():
        role = row.roles.split()[0]
        honest = row.call(world.own(role, row.identifiers.values())).SerializeToString()
        made[method] = Mutator(all_methods()[method].input_type, [honest, b""], draw)
    return made


def parse(made: dict[str, Mutator], count: int) -> Counter[str]:
    """Parse so many mutated messages as the server does; how many were messages, and how many not."""
    parsers = {name: _tolerant(message_class(all_methods()[name].input_type).FromString) for name in made}
    names, outcomes = list(made), Counter[str]()
    for number in range(count):
        name = names[number % len(names)]
        answer = parsers[name](made[name].message())
        outcomes["malformed" if isinstance(answer, Malformed) else "parsed"] += 1
    return outcomes


def handle(world: AccessWorld, made: dict[str, Mutator], count: int, draw: random.Random) -> Counter[str]:
    """Send so many mutated messages; answers by status."""
    methods, outcomes = all_methods(), Counter[str]()
    credentials = {role: world.bearer(role, name).metadata for role, name in NAMES.items()}
    pending: deque[tuple[str, bytes, Any]] = deque()
    names = list(made)
    for number in range(count):
        name = names[number % len(names)]
        method, payload = methods[name], made[name].message()
        metadata = credentials[draw.choice(ROWS[name].roles.split())]
        if method.client_streaming or method.server_streaming:
            outcomes[_streamed(world, method, payload, metadata)] += 1
            continue
        path = f"/{method.containing_service.full_name}/{method.name}"
        call = world.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        pending.append((name, payload, call.future(payload, metadata=metadata, timeout=60)))
        if len(pending) >= IN_FLIGHT:
            outcomes[_judged(*pending.popleft())] += 1
    for each in pending:
        outcomes[_judged(*each)] += 1
    return outcomes


def _judged(name: str, payload: bytes, future: Any) -> str:
    code = future.code()
    assert code in DOCUMENTED, f"{name} answered {code} {future.details()} to {payload.hex()}"
    return str(code.name)


def _streamed(world: AccessWorld, method: Any, payload: bytes, metadata: Any) -> str:
    timeout_s = TIMEOUT_S if method.client_streaming else WATCHED_S
    try:
        invoke(world.channel, method, [payload] * (1 + method.client_streaming), metadata, timeout_s)
    except grpc.RpcError as error:
        assert error.code() in DOCUMENTED, f"{method.full_name} answered {error} to {payload.hex()}"
        return str(error.code().name)
    except StopIteration:
        pass
    return "OK"


def main() -> int:
    """Run it; exit 1 if a callback held the loop too long."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--parsed", type=int, default=1_000_000)
    options.add_argument("--handled", type=int, default=50_000)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder, watched_callbacks() as held:
        world = AccessWorld(Path(folder))
        try:
            made = mutators(world, draw)
            sys.stdout.write(f"parsed: {dict(parse(made, asked.parsed))}\n")
            handle(world, made, len(made) * 4, draw)  # what is done once in a process is not counted
            gc.collect()
            gc.freeze()  # as the engine does before it listens
            held.longest_s, held.callbacks = 0.0, 0
            sys.stdout.write(f"handled: {dict(handle(world, made, asked.handled, draw))}\n")
            assert world.mine.stats().nodes, "the engine still serves"
        finally:
            world.close()
    sys.stdout.write(f"callbacks: {held.callbacks:,}; longest {held.longest_s * 1e3:.1f} ms CPU by {held.by}\n")
    return int(held.longest_s > CPU_S_MAX)


if __name__ == "__main__":
    sys.exit(main())
