"""Every way of saying what is wanted gives the same checked request, or lists everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from walras.v1 import cluster_request_pb2

from engine.cli.cluster_message import checked_request, cluster_message
from engine.cli.main import app
from engine.cli.request_file import read_request_file
from engine.cli.request_options import REQUEST_OPTIONS, AskedCluster
from engine.domain.cluster_request import REQUEST_FIELDS, ClusterRequest
from engine.domain.errors import InvalidInput
from engine.domain.tiers import ConnectivityTier, Interconnect, SecurityTier

EVERYTHING: dict[str, Any] = {
    "request_id": "r1",
    "gpu_models": ["A100-80GB", "H100"],
    "allow_mixed_models": True,
    "gpu_count": 64,
    "gpus_per_node": 8,
    "regions": ["us-east"],
    "countries": ["DE"],
    "sites": ["iad-1"],
    "excluded_regions": ["us-west"],
    "excluded_countries": ["FR"],
    "excluded_sites": ["iad-2"],
    "client_latitude": 40.7,
    "client_longitude": -74.0,
    "max_client_rtt_ms": 30.5,
    "max_cluster_rtt_ms": 2.5,
    "min_security_tier": "VERIFIED",
    "certifications": ["HIPAA", "SOC2"],
    "min_connectivity_tier": "HIGH",
    "min_interconnect": "ROCE",
    "same_fabric": True,
    "min_reliability": 0.95,
    "allowed_suppliers": ["s1", "s2"],
    "excluded_suppliers": ["s3"],
    "max_supplier_share": 0.5,
    "duration_s": 7_200,
    "max_price_micro_usd_per_gpu_hour": 2_500_000,
    "interruptible": True,
    "cpu_milli": 12_000,
    "memory_mib": 65_536,
}
UNSAID = {"client_site", "all_matching", "budget_micro_usd", "gpu_milli"}
"""Contradict the coordinates, max_supplier_share, interruptible and the number of GPUs."""


def violations(error: InvalidInput) -> dict[str, str]:
    return {violation.field: violation.description for violation in error.violations}


def test_there_is_an_option_for_every_field_and_none_else() -> None:
    assert set(REQUEST_OPTIONS) == set(REQUEST_FIELDS)
    assert set(EVERYTHING) | UNSAID == set(REQUEST_FIELDS)
    assert {field.name for field in cluster_request_pb2.ClusterRequest.DESCRIPTOR.fields} == set(REQUEST_FIELDS)


def test_a_budget_reaches_the_wire() -> None:
    message = cluster_message(
        checked_request({"all_matching": True, "budget_micro_usd": 10**9, "gpus_per_node": 8})
    )
    assert (message.all_matching, message.budget_micro_usd, message.gpu_count) == (True, 10**9, 8)


def test_a_part_reaches_the_wire() -> None:
    message = cluster_message(checked_request({"gpu_count": 1, "gpu_milli": 160}))
    assert (message.gpu_count, message.gpu_milli) == (1, 160)
    assert not cluster_message(checked_request({"gpu_count": 1, "gpu_milli": 1_000})).HasField("gpu_milli")


def test_a_part_of_several_gpus_is_refused_with_all_else_that_is_wrong() -> None:
    raw = {"gpu_count": 2, "gpu_milli": 0, "cpu_milli": -1, "memory_mib": 1.5}
    with pytest.raises(InvalidInput) as caught:
        checked_request(raw)
    assert violations(caught.value).keys() == {"gpu_milli", "cpu_milli", "memory_mib"}
    with pytest.raises(InvalidInput, match="gpu_count must be 1, got 2"):
        checked_request({"gpu_count": 2, "gpu_milli": 500})
    with pytest.raises(InvalidInput, match="not with all_matching"):
        checked_request({"gpu_milli": 500, "all_matching": True, "budget_micro_usd": 1})


def test_every_field_reaches_the_wire() -> None:
    message = cluster_message(checked_request(EVERYTHING))
    for name, said in EVERYTHING.items():
        sent = getattr(message, name)
        if name.startswith("min_") and isinstance(said, str):
            enum = message.DESCRIPTOR.fields_by_name[name].enum_type
            assert enum.values_by_number[sent].name.endswith(f"_{said}")
        else:
            assert (list(sent) if isinstance(said, list) else sent) == said, name


@pytest.mark.parametrize("grades", [SecurityTier, ConnectivityTier, Interconnect])
def test_grades_have_the_contracts_numbers(grades: Any) -> None:
    prefix = {SecurityTier: "SECURITY_TIER", ConnectivityTier: "CONNECTIVITY_TIER", Interconnect: "INTERCONNECT"}
    for grade in grades:
        assert getattr(cluster_request_pb2, f"{prefix[grades]}_{grade.name}") == grade + 1


def test_what_is_not_said_is_not_sent() -> None:
    message = cluster_message(ClusterRequest(gpu_count=8))
    assert {field.name for field, _ in message.ListFields()} == {"gpu_count", "gpus_per_node"}


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> AskedCluster:
    """What a command line makes of its options."""
    seen: list[AskedCluster] = []
    monkeypatch.setattr("engine.cli.cluster_calls.explain_cluster", lambda _, said, __: seen.append(said))
    app(["explain", *arguments], standalone_mode=False)
    return seen[0]


def as_options(fields: dict[str, Any], singular: bool) -> list[str]:
    names = {"countries": "country", "excluded_countries": "excluded_country"}
    arguments: list[str] = []
    for field, value in fields.items():
        is_list = isinstance(value, list)
        name = names.get(field, field.removesuffix("s")) if singular and is_list else field
        option = "--" + name.replace("_", "-")
        for each in value if is_list else [value]:
            arguments += [option] if each is True else [option, str(each)]
    return arguments


@pytest.mark.parametrize("singular", [True, False])
def test_options_say_what_a_file_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, singular: bool) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(EVERYTHING))
    from_options = asked(monkeypatch, *as_options(EVERYTHING, singular)).fields()
    from_file = asked(monkeypatch, "--request", str(path)).fields()
    assert checked_request(from_options) == checked_request(from_file) == checked_request(EVERYTHING)


def test_hours_are_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "--gpu-count", "8", "--hours", "1.5").fields()["duration_s"] == 5_400
    for wrong in (["--hours", "1", "--duration-s", "3600"], ["--hours", "inf"]):
        with pytest.raises(InvalidInput, match="hours"):
            asked(monkeypatch, "--gpu-count", "8", *wrong).fields()


def test_a_file_and_options_together_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--gpu-count"):
        asked(monkeypatch, "--request", str(tmp_path / "r.json"), "--gpu-count", "8").fields()


def test_a_file_may_not_name_the_tenant_and_all_violations_are_listed() -> None:
    raw = {"tenant_id": "t", "submitted_at_us": 1, "gpus": 8, "gpu_models": ["H100", 3], "min_reliability": "high"}
    with pytest.raises(InvalidInput) as caught:
        checked_request(raw, "r.json field ")
    listed = violations(caught.value)
    wrong = ("tenant_id", "submitted_at_us", "gpus", "gpu_models[1]", "gpu_count", "min_reliability")
    assert set(listed) == {f"r.json field {name}" for name in wrong}
    assert "credential" in listed["r.json field tenant_id"]


def test_a_tenant_alone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tenant_id"):
        checked_request({"gpu_count": 8, "tenant_id": "t"})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "must hold one JSON object, got list"),
        (b"null", "must hold one JSON object"),
        (b'{"gpu_count": 8, "gpu_count": 16}', "gpu_count: is given twice"),
        (b" " * 2_000_000, "has more than"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=f"request.json.*{why}"):
        read_request_file(path)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.json: cannot be read"):
        read_request_file(tmp_path / "none.json")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_request_file(tmp_path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e400", "true"])
def test_numbers_out_of_range_never_pass(tmp_path: Path, value: str) -> None:
    path = tmp_path / "request.json"
    path.write_text(f'{{"gpu_count": 8, "client_site": "a", "max_client_rtt_ms": {value}}}')
    with pytest.raises(InvalidInput, match="max_client_rtt_ms"):
        checked_request(read_request_file(path))
