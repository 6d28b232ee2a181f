"""From the contract's rows, as the oracles take them, to the engine's inventory and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from engine.domain.cluster_request import REQUEST_FIELDS, ClusterRequest, parse_cluster_request
from engine.domain.tables import FLEET_SCHEMA, RTT_SCHEMA
from engine.market.inventory import Inventory
from solvers.placement import Placement
from tests.worlds import World


def inventory_of(world: World) -> Inventory:
    """The world's fleet with its posted prices."""
    fleet = pl.DataFrame(world.fleet, schema=FLEET_SCHEMA)
    rtt = pl.DataFrame(world.rtt, schema=RTT_SCHEMA)
    inventory = Inventory.empty().merged(fleet, rtt)
    keys = inventory.markets
    posted = [world.posted[inventory.market_names(key)] for key in keys]
    inventory.post(np.array(posted, dtype=np.int64), "test")
    return inventory


def request_of(row: dict[str, Any]) -> ClusterRequest:
    """The request of a contract row."""
    return parse_cluster_request({name: row[name] for name in REQUEST_FIELDS if name in row})


def as_rows(inventory: Inventory, placement: Placement) -> tuple[dict[str, int], dict[str, int]]:
    """(GPUs by node id, price by node id)."""
    ids = inventory.node_ids[placement.nodes].tolist()
    return (
        dict(zip(ids, placement.gpus.tolist(), strict=True)),
        dict(zip(ids, placement.prices_micro_usd.tolist(), strict=True)),
    )
