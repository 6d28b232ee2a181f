"""From raw fields to the message that is sent: checked by the engine's own rules before any call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.cli.request_file import NOT_THE_CALLERS
from engine.domain.cluster_request import ClusterRequest, parse_cluster_request
from engine.domain.errors import InvalidInput, Violation
from engine.service.request_message import cluster_message

__all__ = ["checked_request", "cluster_message"]


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
