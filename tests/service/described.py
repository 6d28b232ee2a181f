"""What the service descriptors say of every method and field, and calls of a method by its description alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from engine.service.server import SERVICES
from tests.service.loopback import TIMEOUT_S

Metadata = tuple[tuple[str, str], ...]


def all_methods() -> dict[str, MethodDescriptor]:
    """Every method that a server offers beside health and reflection, by `Service/Method`."""
    services = [descriptor_pool.Default().FindServiceByName(name) for name in SERVICES]
    return {f"{service.name}/{method.name}": method for service in services for method in service.methods}


def message_class(descriptor: Descriptor) -> Any:
    return message_factory.GetMessageClass(descriptor)


def is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def field_paths(message: Descriptor, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """(path, field) of every leaf, `cluster.gpu_count`. No message of the contract holds itself."""
    for field in message.fields:
        if field.message_type is not None:
            yield from field_paths(field.message_type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def set_path(message: Any, path: str, value: Any) -> None:
    """Set a leaf; a repeated one, or one inside a repeated message, gets one entry."""
    *parents, leaf = path.split(".")
    for name in parents:
        inner = getattr(message, name)
        message = (inner[0] if len(inner) else inner.add()) if hasattr(inner, "add") else inner
    if is_repeated(message.DESCRIPTOR.fields_by_name[leaf]):
        values = value if isinstance(value, list) else [value]
        del getattr(message, leaf)[:]
        getattr(message, leaf).extend(values)
    else:
        setattr(message, leaf, value)


def invoke(
    channel: grpc.Channel,
    method: MethodDescriptor,
    payloads: Iterable[bytes],
    metadata: Metadata,
    timeout_s: float = TIMEOUT_S,
) -> list[bytes]:
    """The replies of one call of these very bytes, of a watch the first; grpc.RpcError if it is refused."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    plain = {"request_serializer": bytes, "response_deserializer": bytes}
    sent: Any = list(payloads)
    kind = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    call = getattr(channel, kind)(path, **plain)
    answer = call(iter(sent) if method.client_streaming else sent[0], metadata=metadata, timeout=timeout_s)
    if not method.server_streaming:
        return [answer]
    if method.client_streaming:
        return list(answer)
    first = next(answer)  # a watch would go on for as long as it may
    answer.cancel()
    return [first]
