"""What a server says of itself by reflection."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.service.loopback import TIMEOUT_S


def _ask(channel: grpc.Channel, **question: Any) -> Any:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(**question)
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT_S)
    return answer


def services_of(channel: grpc.Channel) -> set[str]:
    """Full names of all services."""
    return {service.name for service in _ask(channel, list_services="").list_services_response.service}


def has_symbol(channel: grpc.Channel, name: str) -> bool:
    """Whether the server gives out the file that declares a symbol."""
    return bool(_ask(channel, file_containing_symbol=name).file_descriptor_response.file_descriptor_proto)
