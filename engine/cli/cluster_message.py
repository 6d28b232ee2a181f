"""From raw fields to the message that is sent: checked by the engine's own rules before any call."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from walras.v1 import cluster_request_pb2

from engine.cli.request_file import NOT_THE_CALLERS
from engine.domain.cluster_request import REQUEST_FIELDS, ClusterRequest, parse_cluster_request
from engine.domain.errors import InvalidInput, Violation


def checked_request(raw: Mapping[str, Any], source: str = "") -> ClusterRequest:
    """The request of raw fields; InvalidInput lists every violation, fields named after `source`."""
    violations = [Violation(source + name, why) for name, why in NOT_THE_CALLERS.items() if name in raw]
    own = {name: value for name, value in raw.items() if name not in NOT_THE_CALLERS}
    try:
        request = parse_cluster_request(own, source)
    except InvalidInput as error:
        raise InvalidInput([*violations, *error.violations]) from None
    if violations:
        raise InvalidInput(violations)
    return request


def cluster_message(request: ClusterRequest) -> cluster_request_pb2.ClusterRequest:
    """The same request on the wire: unconstrained fields stay unset."""
    message = cluster_request_pb2.ClusterRequest()
    for name in REQUEST_FIELDS:
        value = getattr(request, name)
        if value is None:
            continue
        if isinstance(value, tuple):
            getattr(message, name).extend(value)
        else:
            # Rank 0 of a grade is 1 on the wire, where 0 says "no minimum".
            setattr(message, name, value + 1 if isinstance(value, IntEnum) else value)
    return message
