"""Health as load balancers ask for it: SERVING once warm, NOT_SERVING from the start of a drain on."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

LEADER_SERVICE = "walras.leader"
"""SERVING on the engine that takes changes: balancers can ask for it by name."""
ROLE = {
    True: health_pb2.HealthCheckResponse.SERVING,
    False: health_pb2.HealthCheckResponse.NOT_SERVING,
}


class Health(HealthServicer):
    """The standard servicer, whose open watches end with a drain: they would otherwise hold it up to its limit."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Future[None]] = set()

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Report every change of a service's status until the caller or the server ends."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await asyncio.wait([watch])  # ends, unlike awaiting it, without an error when the drain cancels it
        finally:
            self._watches.discard(watch)
            watch.cancel()

    async def show_role(self, *, leads: bool) -> None:
        """Tell whether this engine leads."""
        await self.set(LEADER_SERVICE, ROLE[leads])

    async def drain(self) -> None:
        """Report NOT_SERVING for good, then end all watches."""
        await self.enter_graceful_shutdown()
        await asyncio.sleep(0)  # lets watches send what has just changed
        for watch in tuple(self._watches):
            watch.cancel()
