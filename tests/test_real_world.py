"""The main job on the real world: 1,000,000 GPUs from public traces, over gRPC, every placement checked.

Needs the public traces in $WALRAS_DATA; skipped with that reason where they are absent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import grpc
import polars as pl
import pytest
from walras.v1 import cluster_request_pb2, cluster_service_pb2, fleet_service_pb2, oracle_service_pb2
from walras.v1.cluster_service_pb2_grpc import ClusterServiceStub
from walras.v1.fleet_service_pb2_grpc import FleetServiceStub
from walras.v1.oracle_service_pb2_grpc import OracleServiceStub

from engine.cli.fleet_chunks import fleet_chunks, rtt_chunks
from engine.datasets.real import real_requests, real_world
from engine.domain.cluster_request import REQUEST_FIELDS, parse_cluster_request
from tests.checker import violations
from tests.full_size import size

DATA = os.environ.get("WALRAS_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="$WALRAS_DATA names no folder of public traces")
GPUS, BIG_GPUS, SEED = 1_000_000, 10_000, 7
BIG, MIXED = size(15, 100), size(120, 1_000)
DEV = (("x-walras-tenant", "researcher"),)
ENUMS = {
    "min_security_tier": "SECURITY_TIER_",
    "min_connectivity_tier": "CONNECTIVITY_TIER_",
    "min_interconnect": "INTERCONNECT_",
}


class World:
    """A running engine with the real world loaded, and the rows to check its answers against."""

    def __init__(self, channel: grpc.Channel) -> None:
        assert DATA is not None
        self.clusters, self.fleet = ClusterServiceStub(channel), FleetServiceStub(channel)
        world = real_world(Path(DATA), GPUS, SEED)
        self.frame = world.fleet
        self.rtt = {(row["site_a"], row["site_b"]): row for row in world.rtt.to_dicts()}
        self.row_of = {node_id: index for index, node_id in enumerate(self.frame["node_id"].to_list())}
        sites = self.frame.unique("site_id", keep="first", maintain_order=True).to_dicts()
        self.node_at = {row["site_id"]: row for row in sites}
        chunks = [*fleet_chunks(world.fleet), *rtt_chunks(world.rtt)]
        self.loaded = self.fleet.LoadFleet(iter(chunks), metadata=DEV)
        self.posted = self._posted(OracleServiceStub(channel))

    @staticmethod
    def _posted(oracle: OracleServiceStub) -> dict[tuple[str, str, str], int]:
        posted, token = {}, ""
        while True:
            request = oracle_service_pb2.ListPricesRequest(page_size=1_000, page_token=token)
            page = oracle.ListPrices(request, metadata=DEV)
            for price in page.prices:
                market = (price.gpu_model, price.region, price.security_tier)
                posted[market] = price.posted_price_micro_usd_per_gpu_hour
            token = page.next_page_token
            if not token:
                return posted

    def deploy(self, row: dict[str, Any]) -> cluster_service_pb2.Lease | None:
        """The lease, or None if the request was refused (and then with a reason)."""
        message = cluster_request_pb2.ClusterRequest()
        for name, value in row.items():
            if value is None or name not in REQUEST_FIELDS:
                continue
            if name in ENUMS:
                value = (
                    message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_name[ENUMS[name] + value].number
                )
            if isinstance(value, list):
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)
        try:
            return self.clusters.DeployCluster(
                cluster_service_pb2.DeployClusterRequest(cluster=message), metadata=DEV
            )
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error.details()
            return None

    def faults(self, row: dict[str, Any], lease: cluster_service_pb2.Lease) -> list[str]:
        """What the independent checker finds wrong, given the rows of the nodes used and of the client's site."""
        gpus = dict(zip(lease.placement.node_ids, lease.placement.gpus, strict=True))
        prices = dict(zip(lease.placement.node_ids, lease.placement.prices_micro_usd_per_gpu_hour, strict=True))
        used = self.frame[[self.row_of[node_id] for node_id in gpus]].to_dicts()
        home = self.node_at.get(row.get("client_site"))
        others = [home] if home is not None and home["node_id"] not in gpus else []
        sites = {node["site_id"] for node in [*used, *others]}
        rtt = [self.rtt[pair] for pair in product(sites, repeat=2) if pair in self.rtt]
        request = {name: value for name, value in row.items() if name in REQUEST_FIELDS}
        return violations([*used, *others], rtt, self.posted, request, gpus, prices)

    def stats(self) -> fleet_service_pb2.FleetStats:
        return self.fleet.GetFleetStats(fleet_service_pb2.GetFleetStatsRequest(), metadata=DEV)

    def release(self, lease: cluster_service_pb2.Lease) -> None:
        self.clusters.ReleaseLease(cluster_service_pb2.ReleaseLeaseRequest(name=lease.name), metadata=DEV)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data_dir = tmp_path_factory.mktemp("engine")
    config = data_dir / "walras.toml"
    config.write_text("oracle_tick_s = 0\n")  # prices stay as they were read
    command = [
        sys.executable,
        "-m",
        "engine.cli",
        "serve",
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--config",
        str(config),
    ]
    with Popen([*command, "--data-dir", str(data_dir / "data")], stdout=PIPE, text=True) as server:
        assert server.stdout is not None
        target = server.stdout.readline().split()[-1]
        with grpc.insecure_channel(target) as channel:
            yield World(channel)
        server.terminate()
        assert server.wait(timeout=30) == 0


def adds_up(stats: fleet_service_pb2.FleetStats) -> bool:
    parts = (
        stats.gpus_free,
        stats.gpus_held,
        stats.gpus_leased,
        stats.gpus_draining,
        stats.gpus_dead,
        stats.gpus_used_outside,
    )
    return sum(parts) == stats.gpus_registered == GPUS


def test_clusters_of_ten_thousand_gpus(world: World) -> None:
    """Laws 1 to 3: BIG clusters of 10,000 GPUs, in turn over the models that have them; each is right."""
    free = world.frame.filter(pl.col("state") == "READY").group_by("gpu_model").agg(pl.col("gpu_free").sum())
    models = free.filter(pl.col("gpu_free") >= BIG_GPUS * 1.5)["gpu_model"].sort().to_list()
    assert len(models) >= 3
    for index in range(BIG):
        row = {"gpu_models": [models[index % len(models)]], "gpu_count": BIG_GPUS, "duration_s": 3_600 + index}
        lease = world.deploy(row)
        assert lease is not None
        assert lease.certificate.optimal
        assert world.faults(row, lease) == []
        assert adds_up(world.stats())
        world.release(lease)
    assert world.stats().gpus_leased == 0


def test_mixed_requests_of_the_trace(world: World) -> None:
    """Laws 1 to 3 on MIXED requests of the trace with all constraints, held together and then released."""
    requests = real_requests(Path(DATA or ""), world.frame, MIXED, SEED, None)
    leases = []
    for row in requests.iter_rows(named=True):
        parse_cluster_request({name: row[name] for name in REQUEST_FIELDS if name in row})
        lease = world.deploy(row)
        if lease is not None:
            assert world.faults(row, lease) == [], row
            leases.append(lease)
    assert len(leases) > MIXED / 2
    stats = world.stats()
    assert adds_up(stats)
    assert stats.gpus_leased == sum(lease.gpu_count for lease in leases)
    for lease in leases:
        world.release(lease)
    assert world.stats().gpus_leased == 0
