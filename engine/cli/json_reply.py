"""Replies of the engine as JSON: contract field names, integers as numbers, enums by name, nothing left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from walras.v1 import cluster_service_pb2, placement_pb2


def plain(message: Message) -> dict[str, Any]:
    """A message as a dictionary; unset sub-messages and optional fields are null.

    protobuf's own JSON writes 64-bit integers as texts, which would make money a text.
    """
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def placement_rows(placement: placement_pb2.Placement) -> list[dict[str, Any]]:
    """A placement row by row: node_id, gpus, price_micro_usd_per_gpu_hour; of a part of a GPU also its card."""
    columns = zip(placement.node_ids, placement.gpus, placement.prices_micro_usd_per_gpu_hour, strict=True)
    card = {"card": placement.card} if placement.HasField("card") else {}
    return [
        {"node_id": node_id, "gpus": gpus, "price_micro_usd_per_gpu_hour": price, **card}
        for node_id, gpus, price in columns
    ]


def lease_json(lease: cluster_service_pb2.Lease) -> dict[str, Any]:
    """A lease as `deploy --json` shows it: the contract's keys first, then the rest."""
    return {
        "request_id": lease.request_id,
        "lease_id": lease.lease_id,
        "total_micro_usd": lease.price.total_micro_usd,
        "placements": placement_rows(lease.placement),
        **_others(lease),
    }


def quote_json(quote: cluster_service_pb2.Quote) -> dict[str, Any]:
    """A quote with its placement row by row."""
    return {
        "request_id": quote.request_id,
        "quote_id": quote.quote_id,
        "total_micro_usd": quote.price.total_micro_usd,
        "placements": placement_rows(quote.placement),
        **_others(quote),
    }


def _others(message: Message) -> dict[str, Any]:
    shown = {"request_id", "lease_id", "quote_id", "placement"}
    return {name: value for name, value in plain(message).items() if name not in shown}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        number = field.enum_type.values_by_number.get(value)
        return number.name if number else value
    return value
