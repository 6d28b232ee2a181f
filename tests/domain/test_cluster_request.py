"""Requests are checked once, at the border, and every violation is listed (law 9)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.cluster_request import REQUEST_FIELDS, parse_cluster_request
from engine.domain.errors import InvalidInput
from engine.domain.limits import MAX_GPU_COUNT, MAX_GPUS_PER_NODE

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.text(max_size=140),
    st.lists(st.text(max_size=5), max_size=3),
    st.binary(max_size=3),
)


@given(st.dictionaries(st.sampled_from([*REQUEST_FIELDS, "tenant_id", "nonsense"]), anything))
def test_any_fields_give_a_request_or_violations_that_name_them(raw: dict[str, Any]) -> None:
    """Law 9: whatever comes, the answer is a valid request or a list of violations of fields that were sent."""
    try:
        request = parse_cluster_request(raw)
    except InvalidInput as error:
        fields = {violation.field.split("[")[0] for violation in error.violations}
        assert fields <= {*raw, "gpu_count", "gpus_per_node"}
        return
    assert 1 <= request.gpu_count <= MAX_GPU_COUNT
    assert request.gpu_count % request.gpus_per_node == 0
    assert request.gpus_per_node <= MAX_GPUS_PER_NODE
    for limit in (request.max_client_rtt_ms, request.max_cluster_rtt_ms, request.min_reliability):
        assert limit is None or (math.isfinite(limit) and limit >= 0)


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        ({}, ["gpu_count"]),
        ({"gpu_count": 0}, ["gpu_count"]),
        ({"gpu_count": -8}, ["gpu_count"]),
        ({"gpu_count": 2**63 - 1}, ["gpu_count"]),
        ({"gpu_count": True}, ["gpu_count"]),
        ({"gpu_count": 10, "gpus_per_node": 4}, ["gpus_per_node"]),
        ({"gpu_count": 1, "max_client_rtt_ms": math.nan}, ["max_client_rtt_ms"]),
        ({"gpu_count": 1, "max_cluster_rtt_ms": math.inf}, ["max_cluster_rtt_ms"]),
        ({"gpu_count": 1, "max_client_rtt_ms": 5.0}, ["max_client_rtt_ms"]),
        (
            {"gpu_count": 1, "client_latitude": 91.0, "client_longitude": -181.0},
            ["client_latitude", "client_longitude"],
        ),
        ({"gpu_count": 1, "client_latitude": 1.0}, ["client_latitude"]),
        ({"gpu_count": 1, "client_latitude": 1.0, "client_longitude": 1.0, "client_site": "a"}, ["client_site"]),
        ({"gpu_count": 1, "min_security_tier": "PARANOID"}, ["min_security_tier"]),
        ({"gpu_count": 1, "gpu_models": ["H100", ""]}, ["gpu_models[1]"]),
        ({"gpu_count": 1, "gpu_models": "H100"}, ["gpu_models"]),
        ({"gpu_count": 1, "regions": ["a"], "excluded_regions": ["a"]}, ["excluded_regions"]),
        ({"gpu_count": 8, "gpus_per_node": 8, "max_supplier_share": 0.5}, ["max_supplier_share"]),
        ({"gpu_count": 8, "max_supplier_share": 0.0}, ["max_supplier_share"]),
        ({"gpu_count": 1, "tenant_id": "me"}, ["tenant_id"]),
        (
            {"gpu_count": -1, "duration_s": 0, "min_reliability": 2.0},
            ["gpu_count", "duration_s", "min_reliability"],
        ),
    ],
)
def test_each_kind_of_bad_input_is_named(raw: dict[str, Any], fields: list[str]) -> None:
    """Law 9: all violations at once, each under the field to mend."""
    with pytest.raises(InvalidInput) as caught:
        parse_cluster_request(raw, prefix="cluster.")
    named = [violation.field.removeprefix("cluster.") for violation in caught.value.violations]
    assert sorted(named) == sorted(fields)
