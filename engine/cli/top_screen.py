"""`walras top`: what the fleet is doing and who runs on it, on one screen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from walras.v1 import cluster_service_pb2, fleet_service_pb2, fleet_service_pb2_grpc

from engine.cli.amounts import percent
from engine.cli.connection import CALL_TIMEOUT_S, Connection
from engine.cli.json_reply import lease_json, plain
from engine.cli.lease_calls import HEADINGS, all_leases, lease_rows
from engine.cli.process import is_heard
from engine.cli.screen import answers, print_json
from engine.cli.text_table import text_table

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_S = 1.0
SHOWN_LEASES = 15
BAR_WIDTH = 40
COUNTS = (
    ("free", "gpus_free"),
    ("leased", "gpus_leased"),
    ("held", "gpus_held"),
    ("draining", "gpus_draining"),
    ("dead", "gpus_dead"),
    ("used outside", "gpus_used_outside"),
)


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at the engine."""

    stats: fleet_service_pb2.FleetStats
    leases: list[cluster_service_pb2.Lease]
    """Active, of the calling tenant."""


def show_top(connection: Connection, watch: bool, as_json: bool) -> None:
    """Show one look, or with `watch` one a second until interrupted."""
    with connection.channel() as channel:
        if watch and not as_json:
            _watch(channel, connection)
            return
        sight = look(channel, connection)
        while True:
            _show(sight, as_json)
            if not watch or not is_heard():
                return
            time.sleep(REFRESH_S)
            sight = look(channel, connection)


def look(channel: grpc.Channel, connection: Connection) -> Sight:
    """Ask for counts and leases."""
    service = fleet_service_pb2_grpc.FleetServiceStub(channel)
    call = fleet_service_pb2.GetFleetStatsRequest()
    stats = service.GetFleetStats(call, timeout=CALL_TIMEOUT_S, metadata=connection.metadata)
    return Sight(stats, list(all_leases(channel, connection)))


def _show(sight: Sight, as_json: bool) -> None:
    if as_json:
        print_json({**plain(sight.stats), "leases": [lease_json(lease) for lease in sight.leases]})
    else:
        answers().print(render(sight))


def _watch(channel: grpc.Channel, connection: Connection) -> None:
    from rich.live import Live

    console = answers()
    with Live(render(look(channel, connection)), console=console, screen=console.is_terminal) as live:
        while is_heard():
            time.sleep(REFRESH_S)
            live.update(render(look(channel, connection)), refresh=True)


def render(sight: Sight) -> RenderableType:
    """Counts with bars, then the newest leases."""
    from rich.console import Group

    stats = sight.stats
    head = (
        f"{stats.gpus_registered:,} GPUs on {stats.nodes:,} nodes in {stats.pools:,} pools · "
        f"{stats.leases_active:,} active leases · state {stats.state_version:,} · fleet {stats.fleet_version:,}"
    )
    counts = text_table("GPUs", ("", " "), ("count", "share"), _count_rows(stats))
    return Group(head, counts, _newest(sight.leases))


def _count_rows(stats: fleet_service_pb2.FleetStats) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, field in COUNTS:
        count, total = getattr(stats, field), stats.gpus_registered
        bar = "█" * round(BAR_WIDTH * count / total) if total else ""
        rows.append((name, bar, f"{count:,}", percent(count, total)))
    return rows


def _newest(leases: list[cluster_service_pb2.Lease]) -> RenderableType:
    shown = leases[::-1][:SHOWN_LEASES]
    title = "leases, newest first" + (f" ({SHOWN_LEASES} of {len(leases):,})" if len(leases) > len(shown) else "")
    return text_table(title, *HEADINGS, lease_rows(shown))
