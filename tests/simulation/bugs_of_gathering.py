"""Planted bugs of deployments that are decided together."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from engine.service.engine import Engine
from engine.service.gathered_deploys import GatheredDeploys
from tests.simulation.planting import bug, instead


@bug("gathered calls told of each other's leases")
def _() -> Any:
    def wrong(right: Any, self: Any, waiting: Any) -> Any:
        return right(self, waiting)[::-1]

    return instead(GatheredDeploys, "_together", wrong)


@bug("gathered calls answered before they are durable")
def _() -> Any:
    async def at_once(self: Any) -> None:
        pass

    async def wrong(right: Any, self: Any, waiting: Any) -> None:
        with patch.object(Engine, "settled", at_once):
            await right(self, waiting)

    return instead(GatheredDeploys, "_serve", wrong)
