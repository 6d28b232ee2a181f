"""A broken file is refused by name, row and column; every importer is tried with every break that fits it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from engine.datasets.city_pings import city_pings
from engine.datasets.cloud_regions import cloud_sites
from engine.datasets.itp import itp_arrivals
from engine.datasets.offers import offers
from engine.datasets.openb import openb_nodes
from engine.datasets.pai import pai_nodes
from engine.datasets.philly import philly_arrivals
from engine.datasets.prime import prime_prices
from engine.datasets.skyplane import skyplane_rtt
from engine.domain.errors import InvalidInput

READERS: list[tuple[Callable[[Path], object], str]] = [
    (openb_nodes, "alibaba_openb_2023/openb_node_list_gpu_node.csv"),
    (pai_nodes, "alibaba_pai_2020_machines/pai_machine_spec.csv"),
    (offers, "gpu_offers_2026_05/offerings.json"),
    (prime_prices, "prime_gpu_market_2025/price_and_availability.parquet"),
    (cloud_sites, "cloud_region_coords/awsData.txt"),
    (skyplane_rtt, "skyplane_net_2022/latency.parquet"),
    (city_pings, "wondernetwork_pings_2018/cities.csv"),
    (itp_arrivals, "msr_itp_2021/cluster01.parquet"),
    (philly_arrivals, "philly_2017/philly_jobs.parquet"),
]
NAMES = [file.rpartition("/")[2] for _, file in READERS]


@pytest.mark.parametrize(("read", "file"), READERS, ids=NAMES)
def test_a_missing_file_is_named(read: Callable[[Path], object], file: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path)
    assert refused.value.violations[0].field == file
    assert refused.value.violations[0].description == "no such file"


@pytest.mark.parametrize(("read", "file"), READERS, ids=NAMES)
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe garbage", b"{}", b"a,b\n1,2\n"])
def test_garbage_is_refused_by_name(
    read: Callable[[Path], object], file: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path)
    assert all(violation.field.startswith(file) for violation in refused.value.violations)


def _written(tmp_path: Path, file: str, text: str) -> Path:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return tmp_path


def test_a_bad_number_is_named_by_row_and_column(tmp_path: Path) -> None:
    data = _written(tmp_path, READERS[0][1], "sn,gpu,model\na,8,V100M32\nb,eight,T4\n")
    with pytest.raises(InvalidInput, match=r"openb_node_list_gpu_node.csv row 1 column gpu: 'eight'"):
        openb_nodes(data)


def test_a_broken_rule_is_named_by_row_and_column(tmp_path: Path) -> None:
    data = _written(tmp_path, READERS[0][1], "sn,gpu,model\na,8,V100M32\nb,0,T4\nc,2,\n")
    with pytest.raises(InvalidInput, match=r"row 1 column gpu"):
        openb_nodes(data)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    data = _written(tmp_path, READERS[1][1], "machine,gpu_type\nm,T4\n")
    with pytest.raises(InvalidInput, match=r"pai_machine_spec.csv column cap_gpu: is missing"):
        pai_nodes(data)


def test_a_negative_price_is_named(tmp_path: Path) -> None:
    offer = {"provider_id": "x", "gpu_model": "H100", "vram_gb": 80, "tier": "secure", "is_spot": False}
    records = [{**offer, "price_usd_hour": price} for price in (2.0, -1.0)]
    data = _written(tmp_path, READERS[2][1], json.dumps(records))
    with pytest.raises(InvalidInput, match=r"offerings.json row 1 column price_usd_hour"):
        offers(data)


def test_many_broken_rows_are_listed_in_part_with_the_count_of_the_rest(tmp_path: Path) -> None:
    data = _written(tmp_path, READERS[0][1], "sn,gpu,model\n" + "a,-1,T4\n" * 50)
    with pytest.raises(InvalidInput) as refused:
        openb_nodes(data)
    assert len(refused.value.violations) == 21
    assert "30 more rows" in refused.value.violations[-1].description


def test_a_region_of_unknown_country_is_refused(tmp_path: Path, data_dir: Path) -> None:
    shutil.copytree(
        data_dir / "cloud_region_coords", tmp_path / "cloud_region_coords", copy_function=shutil.copyfile
    )
    path = tmp_path / "cloud_region_coords" / "awsData.txt"
    (tmp_path / "cloud_region_coords").chmod(0o755)
    path.write_text(path.read_text() + "moon-east-1;Moon (Tycho);[];-43.3;-11.4\n")
    with pytest.raises(InvalidInput, match="moon-east-1"):
        cloud_sites(tmp_path)


def test_a_job_without_duration_is_refused(tmp_path: Path, data_dir: Path) -> None:
    for name in ("01", "02", "04", "05", "07", "08", "09", "10"):
        jobs = pl.read_parquet(data_dir / "msr_itp_2021" / f"cluster{name}.parquet").head(3)
        (tmp_path / "msr_itp_2021").mkdir(exist_ok=True)
        bad = jobs.with_columns(
            pl.when(pl.int_range(pl.len()) == 2).then(0).otherwise("duration").alias("duration")
        )
        (bad if name == "07" else jobs).write_parquet(tmp_path / "msr_itp_2021" / f"cluster{name}.parquet")
    with pytest.raises(InvalidInput, match=r"msr_itp_2021/cluster07.parquet row 2 column duration"):
        itp_arrivals(tmp_path)
