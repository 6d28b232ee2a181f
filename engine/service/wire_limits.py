"""What a connection may ask of the engine before any of its calls is looked at."""

from __future__ import annotations

STREAMS_MAX = 256
"""Calls at once on one connection; more wait in the caller."""
METADATA_BYTES_MAX = 16 * 1024
"""Soft and hard limit alike: between the two gRPC refuses at random."""
KEEPALIVE_MS, KEEPALIVE_ANSWER_MS = 60_000, 20_000
"""A peer that has gone is noticed, and its half-open calls with it."""
PING_INTERVAL_MS_MIN, PING_STRIKES_MAX = 10_000, 2
IDLE_MS_MAX = 30 * 60_000
UNSEEN_MAX = 768
"""Calls that have come and that the engine has not looked at. gRPC ends what comes beyond as CANCELLED, in
compiled code: were the line longer (by default up to 3,000), every call in it would be late when its turn comes,
and be served for nothing.
"""


def wire_limits(message_bytes_max: int) -> list[tuple[str, int]]:
    """Options of the gRPC server."""
    return [
        ("grpc.so_reuseport", 0),  # a second server on the same port must fail, not share it
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_INTERVAL_MS_MIN),
        ("grpc.http2.max_ping_strikes", PING_STRIKES_MAX),
        ("grpc.max_connection_idle_ms", IDLE_MS_MAX),
        ("grpc.server.max_pending_requests", UNSEEN_MAX),
        ("grpc.server.max_pending_requests_hard_limit", UNSEEN_MAX),
    ]
