"""Folds records of exchanges into metrics, off the path of the exchange itself.

The series of a combination of names are looked up once and remembered, so that a record costs one dictionary look-up
and a few list increments.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, NamedTuple

from observability import names
from observability.cardinality import RecentNames, plain_name
from observability.metrics import Labels, Registry
from observability.names import NONE, OTHER
from observability.record import ExchangeRecord
from policies.model import ResultCode

MAX_MODELS: Final = 64
MODEL_IDLE: Final = 3600 * 1_000_000_000
"""Nanoseconds."""
_MAX_REMEMBERED: Final = 2048
_SECONDS: Final = names.SECONDS
_DURATIONS: Final = names.DURATION_BOUNDARIES

ERROR_TYPE: Final[Mapping[ResultCode, str]] = {
    ResultCode.UPSTREAM_FAILED: "upstream_failed",
    ResultCode.CLIENT_GONE: "client_gone",
    ResultCode.DEADLINE: "timeout",
    ResultCode.MALFORMED_RESPONSE: "malformed_response",
    ResultCode.INVALID_ANSWER: "invalid_answer",
    ResultCode.INTERNAL: "internal",
}


def error_type(record: ExchangeRecord) -> str:
    """`error.type` of an exchange that reached its provider: a status or a bounded name; `none` when it went well."""
    if record.result is ResultCode.FORWARDED:
        return NONE
    if record.result is ResultCode.UPSTREAM_REFUSED:
        return str(record.status) if 400 <= record.status < 600 else "upstream_refused"
    return ERROR_TYPE.get(record.result, record.result.name.lower())


def status_class(status: int) -> str:
    """`2xx` and so on; `none` when the client was gone before it saw a status."""
    return f"{status // 100}xx" if 100 <= status < 600 else NONE


class ExchangeMetrics:
    """Everything that is counted about exchanges. Owned by the thread that folds."""

    def __init__(self, registry: Registry, *, max_models: int = MAX_MODELS) -> None:
        self._exchanges = registry.counter(names.EXCHANGES)
        self._request_bytes = registry.counter(names.REQUEST_BYTES)
        self._response_bytes = registry.counter(names.RESPONSE_BYTES)
        self._identifiers = registry.counter(names.IDENTIFIERS)
        self._policy_findings = registry.counter(names.POLICY_FINDINGS)
        self._duration = registry.histogram(names.EXCHANGE_DURATION)
        self._to_upstream = registry.histogram(names.TIME_TO_UPSTREAM)
        self._operation = registry.histogram(names.GEN_AI_OPERATION_DURATION)
        registry.histogram(names.GEN_AI_REQUEST_DURATION).mirror(self._operation)
        self._first_chunk = registry.histogram(names.GEN_AI_TIME_TO_FIRST_CHUNK)
        self._first_token = registry.histogram(names.GEN_AI_TIME_TO_FIRST_TOKEN)
        self._output_token = registry.histogram(names.GEN_AI_TIME_PER_OUTPUT_TOKEN)
        self._usage = registry.histogram(names.GEN_AI_TOKEN_USAGE)
        self._models = RecentNames(max_models, idle=MODEL_IDLE, forget=self._forget_model)
        self._remembered: dict[tuple[object, ...], _Series] = {}
        self._refresh_at = 0

    def fold(self, record: ExchangeRecord) -> None:
        """Count one exchange."""
        started_at, sent_at, ended_at = record.started_at, record.sent_at, record.ended_at
        route, exchanges, request_bytes, response_bytes, duration, to_upstream, provider = self._series(record)
        exchanges[0] += 1
        request_bytes[0] += record.request_bytes
        response_bytes[0] += record.response_bytes
        seconds = (ended_at - started_at) / 1e9
        duration[bisect_left(_SECONDS, seconds)] += 1
        duration[-1] += seconds
        if record.findings:
            self._fold_findings(record.findings, route)
        if provider is None:
            return
        seconds = (sent_at - started_at) / 1e9
        to_upstream[bisect_left(_SECONDS, seconds)] += 1
        to_upstream[-1] += seconds
        operation, seconds = provider.operation, (ended_at - sent_at) / 1e9
        operation[bisect_left(_DURATIONS, seconds)] += 1
        operation[-1] += seconds
        if record.stream or record.input_tokens is not None or record.output_tokens is not None:
            self._fold_tokens(record, provider)

    def _fold_findings(self, findings: Mapping[str, int], route: str) -> None:
        for label, count in findings.items():
            # A label with a dot is no identifier but what a policy noticed.
            (self._policy_findings if "." in label else self._identifiers).add((route, label), count)

    def _fold_tokens(self, record: ExchangeRecord, provider: "_Provider") -> None:
        if record.input_tokens is not None:
            self._usage.observe(record.input_tokens, provider.input_labels)
        if record.output_tokens is not None:
            self._usage.observe(record.output_tokens, provider.output_labels)
        if not record.stream or not record.first_chunk_at:
            return
        waited = (record.first_chunk_at - record.sent_at) / 1e9
        self._first_chunk.observe(waited, provider.labels)
        self._first_token.observe(waited, provider.labels)
        if record.output_tokens is not None and record.output_tokens > 1:
            streaming = (record.ended_at - record.first_chunk_at) / 1e9
            self._output_token.observe(streaming / (record.output_tokens - 1), provider.labels)

    def _series(self, record: ExchangeRecord) -> "_Series":
        if record.ended_at >= self._refresh_at:
            # Remembered series do not tell `_models` that a name is in use; now and then everybody has to ask again.
            self._remembered.clear()
            self._refresh_at = record.ended_at + MODEL_IDLE // 4
        key = (
            record.endpoint,
            record.result,
            record.status,
            record.request_model,
            record.response_model,
            record.sent_at == 0,
        )
        series = self._remembered.get(key)
        if series is not None:
            return series
        series = self._open(record)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        # A model that became `other` is asked about again: a later success must be able to give it its name.
        if series.provider is None or OTHER not in series.provider.labels[2:4]:
            self._remembered[key] = series
        return series

    def _open(self, record: ExchangeRecord) -> "_Series":
        route = plain_name(record.endpoint.route)
        where = (route, record.endpoint.dialect.value)
        return _Series(
            route,
            self._exchanges.cell((*where, record.result.name.lower(), status_class(record.status))),
            self._request_bytes.cell(where),
            self._response_bytes.cell(where),
            self._duration.series(where),
            self._to_upstream.series(where),
            self._open_provider(record) if record.sent_at else None,
        )

    def _open_provider(self, record: ExchangeRecord) -> "_Provider":
        confirmed = record.result is ResultCode.FORWARDED
        labels = (
            record.endpoint.operation,
            record.endpoint.provider,
            self._models.label(record.request_model, record.ended_at, confirmed=confirmed),
            self._models.label(record.response_model, record.ended_at, confirmed=confirmed),
            plain_name(record.endpoint.server_address),
            str(record.endpoint.server_port),
            error_type(record),
        )
        return _Provider(labels, ("input", *labels), ("output", *labels), self._operation.series(labels))

    def _forget_model(self, model: str) -> None:
        self._remembered.clear()
        for histogram in (self._operation, self._first_chunk, self._first_token, self._output_token):
            histogram.drop(lambda labels: model in labels[2:4])
        self._usage.drop(lambda labels: model in labels[3:5])


class _Provider(NamedTuple):
    """The `gen_ai.*` series of one combination of names."""

    labels: Labels
    input_labels: Labels
    output_labels: Labels
    operation: list[float]


class _Series(NamedTuple):
    """All series of one combination of names."""

    route: str
    exchanges: list[float]
    request_bytes: list[float]
    response_bytes: list[float]
    duration: list[float]
    to_upstream: list[float]
    provider: _Provider | None
    """None: the exchange never reached the provider."""
