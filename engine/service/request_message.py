"""A cluster request on the wire; light, as the command line sends the same."""

from __future__ import annotations

from enum import IntEnum

from walras.v1 import cluster_request_pb2

from engine.domain.cluster_request import REQUEST_FIELDS, ClusterRequest


def cluster_message(request: ClusterRequest) -> cluster_request_pb2.ClusterRequest:
    """The request as a message: unconstrained fields stay unset."""
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
