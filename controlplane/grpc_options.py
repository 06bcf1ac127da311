"""What every gRPC server of ours is told about connections that live for days.

gRPC ignores a misspelt option without a word: tests/controlplane/test_options.py sees each of them work.
"""

from typing import Final

LONG_LIVED: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_concurrent_streams", 100_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # The default of 5 minutes cuts off clients that ping every 30 s: GOAWAY too_many_pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Connections pin to the oldest replica unless they end now and then.
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),
)
