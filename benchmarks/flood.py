"""A generator of deploys that costs less than the server: HTTP/2 frames made ahead, replies told apart by frames.

A Python client of gRPC needs about as much of a core for a call as the server does, so it cannot offer ten times
what is served. Here all calls share one block of headers, a call is a join of bytes, and what is due goes out by
one write a connection. A reply with a message is an answer; trailers alone are a refusal, whatever its code. The
protocol is kept: flow control, the server's limit of streams, pings. Calls that a connection has no stream for
wait for one, as in any gRPC channel, until their deadline.
"""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from walras.v1 import cluster_service_pb2 as pb

from benchmarks.calls import TENANT
from benchmarks.pressure import DEPLOY, Tally
from engine.cli.cluster_message import cluster_message
from engine.cli.connection import Connection
from engine.domain.cluster_request import ClusterRequest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_STREAMS, INITIAL_WINDOW = 3, 4
WINDOW = 2**31 - 1
REFUSED, UNSENT, UNANSWERED, RESET = "REFUSED", "UNSENT", "UNANSWERED", "RESET"
TICK_S = 0.002
CONNECTIONS = 32


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that no table remembers; both lengths below 127."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


@dataclass(frozen=True, slots=True)
class Flood:
    """Whom to call, with what, and how long an answer may take."""

    target: str
    requests: Sequence[ClusterRequest]
    deadline_s: float
    method: str = DEPLOY

    def closed(self, clients: int, seconds: float) -> Tally:
        """So many calls at a time."""
        return asyncio.run(self._run(clients, None, seconds))

    def open(self, rate_per_s: float, seconds: float) -> Tally:
        """So many calls a second, whatever becomes of them."""
        return asyncio.run(self._run(CONNECTIONS, rate_per_s, seconds))

    async def _run(self, calls: int, rate_per_s: float | None, seconds: float) -> Tally:
        loop, run = asyncio.get_running_loop(), _Run(self)
        host, _, port = self.target.rpartition(":")
        links = [_Link(run) for _ in range(min(calls, CONNECTIONS))]
        for link in links:
            await loop.create_connection(lambda own=link: own, host, int(port))  # type: ignore[misc]
            await link.ready
        run.started_s = time.perf_counter()
        sent = 0
        while (elapsed_s := time.perf_counter() - run.started_s) < seconds:
            due = calls - run.open if rate_per_s is None else int(elapsed_s * rate_per_s) - sent
            for _ in range(due):
                links[sent % len(links)].offer(run.body(sent))
                sent += 1
            for link in links:
                link.flush()
            await asyncio.sleep(0 if rate_per_s is None else TICK_S)
        run.tally.seconds, run.tally.sent = time.perf_counter() - run.started_s, sent
        over_s = time.perf_counter() + self.deadline_s
        while run.open and time.perf_counter() < over_s:
            await asyncio.sleep(TICK_S)
        for link in links:
            link.end()
        return run.tally


class _Run:
    """What the links of one run share."""

    def __init__(self, flood: Flood) -> None:
        self.deadline_s, self.tally, self.started_s, self.open = flood.deadline_s, Tally(), 0.0, 0
        fields = [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
        fields += [(name.encode(), value.encode()) for name, value in Connection(flood.target, TENANT).metadata]
        fields.append((b"grpc-timeout", f"{round(flood.deadline_s * 1e3)}m".encode()))
        named = b"\x83\x86\x04" + bytes((len(flood.method),)) + flood.method.encode()
        named += b"\x01" + bytes((len(flood.target),)) + flood.target.encode()
        self.headers = named + b"".join(literal(*each) for each in fields)
        self._key = uuid.uuid4().hex
        self._bodies = [
            pb.DeployClusterRequest(cluster=cluster_message(each)).SerializeToString() for each in flood.requests
        ]

    def body(self, number: int) -> bytes:
        """A call's message under a fresh key, with gRPC's prefix."""
        key = f"{self._key}-{number:08d}".encode()
        body = self._bodies[number % len(self._bodies)] + KEY_FIELD + bytes((len(key),)) + key
        return b"\x00" + struct.pack(">I", len(body)) + body

    def over(self, offered_s: float, how: str | None) -> None:
        """A call has ended: with an answer, or how else."""
        self.open -= 1
        now_s = time.perf_counter()
        if how is None and now_s - offered_s <= self.deadline_s:
            self.tally.latency_ms.append(1e3 * (now_s - offered_s))
            self.tally.at_s.append(now_s - self.started_s)
        else:
            self.tally.failed[how or UNANSWERED] += 1


KEY_FIELD = pb.DeployClusterRequest(idempotency_key="x").SerializeToString()[:1]


class _Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: _Run) -> None:
        self._run, self._stream, self._streams_max, self._window = run, 1, 100, 65_535
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._offered_s: dict[int, float] = {}
        self._answered: set[int] = set()
        self._received, self._received_bytes = b"", 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, with windows as wide as can be: answers are small."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(">HI", INITIAL_WINDOW, WINDOW)
        wide = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW - 65_535))
        transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + wide)

    def offer(self, body: bytes) -> None:
        """A call that is due."""
        self._waiting.append((time.perf_counter(), body))
        self._run.open += 1

    def flush(self) -> None:
        """Send what there is a stream and a window for; drop what is too late."""
        out, run = [], self._run
        late_s = time.perf_counter() - run.deadline_s
        while self._waiting and self._waiting[0][0] < late_s:
            run.over(self._waiting.popleft()[0], UNSENT)
        while self._waiting and len(self._offered_s) < self._streams_max:
            if self._window < len(self._waiting[0][1]):
                break
            offered_s, body = self._waiting.popleft()
            self._window -= len(body)
            self._offered_s[self._stream] = offered_s
            out.append(frame(HEADERS, END_HEADERS, self._stream, run.headers))
            out.append(frame(DATA, END_STREAM, self._stream, body))
            self._stream += 2
        if out:
            self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        """Take whole frames; keep the rest."""
        received, at = self._received + data, 0
        while len(received) - at >= 9:
            size = int.from_bytes(received[at : at + 3], "big")
            if len(received) - at < 9 + size:
                break
            kind, flags = received[at + 3], received[at + 4]
            stream = int.from_bytes(received[at + 5 : at + 9], "big")
            self._take(kind, flags, stream, received[at + 9 : at + 9 + size])
            at += 9 + size
        self._received = received[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._answered.add(stream)
            self._received_bytes += len(payload)
            if self._received_bytes > WINDOW // 4:
                self._transport.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received_bytes)))
                self._received_bytes = 0
        elif kind == RST_STREAM:
            self._over(stream, RESET)
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            self._settle(payload)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self._over(stream, None if stream in self._answered else REFUSED)

    def _over(self, stream: int, how: str | None) -> None:
        offered_s = self._offered_s.pop(stream, None)
        self._answered.discard(stream)
        if offered_s is not None:
            self._run.over(offered_s, how)

    def _settle(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == MAX_STREAMS:
                self._streams_max = value
        self._transport.write(frame(SETTINGS, ACK, 0, b""))
        if not self.ready.done():
            self.ready.set_result(None)

    def end(self) -> None:
        """Count what has no answer, and close."""
        for offered_s in (*self._offered_s.values(), *(each[0] for each in self._waiting)):
            self._run.over(offered_s, UNANSWERED)
        self._transport.close()
