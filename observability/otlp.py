"""The OTLP exporter; the only module that needs the extra `otlp`."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


class ExporterMissingError(Exception):
    """Spans shall be exported but the exporter is not installed. Not a reason to run without: say so at start."""


def otlp_exporter(endpoint: str, *, ca_file: Path | None = None, timeout: float = 10) -> "SpanExporter":
    """An exporter to a collector at `endpoint` (`http://host:4317`, or `https://` with the system's CAs or `ca_file`).

    `timeout` in seconds. Raises ExporterMissingError without the extra, OSError when `ca_file` cannot be read.
    """
    try:
        exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    except ImportError:
        raise ExporterMissingError(
            "an OTLP endpoint is set but the exporter is missing; install aegis-mesh[otlp] or unset the endpoint"
        ) from None
    import grpc  # with the exporter, and not by whoever only asks for the error above

    insecure = not endpoint.startswith("https://")
    credentials = None if insecure else grpc.ssl_channel_credentials(ca_file.read_bytes() if ca_file else None)
    made: SpanExporter = exporter.OTLPSpanExporter(
        endpoint=endpoint, insecure=insecure, credentials=credentials, timeout=timeout
    )
    return made
