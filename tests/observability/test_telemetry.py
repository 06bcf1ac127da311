"""From finished exchanges to metrics, and the trace context that goes upstream."""

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from observability import names
from observability.cardinality import RecentNames, plain_name
from observability.exchanges import MODEL_IDLE, error_type, status_class
from observability.metrics import Registry
from observability.process import watch_process
from observability.record import ExchangeRecord
from observability.telemetry import MAX_PENDING, Telemetry
from observability.trace_context import parse_traceparent
from policies.model import ResultCode, UnixNanos
from tests.fakes.records import DENIED, STREAMED
from tests.fakes.scrape import samples

GEN_AI = (
    'error_type="none",gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="gpt-4o",'
    'gen_ai_response_model="gpt-4o-2024-08-06"'
)
SERVER = 'server_address="api.openai.com",server_port="443"'
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


class Kept:
    """A span sink that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[ExchangeRecord] = []

    def add(self, record: ExchangeRecord) -> None:
        self.records.append(record)


def test_a_streamed_exchange_is_counted_in_every_histogram_that_concerns_it() -> None:
    telemetry = Telemetry(Registry())

    telemetry.record(STREAMED)

    found = samples([telemetry.snapshot()])
    assert (
        found['aegis_exchanges_total{dialect="openai.chat",result="forwarded",route="openai",status_class="2xx"}'] == 1
    )
    assert found['aegis_identifiers_total{label="us_ssn",route="openai"}'] == 2
    assert found['aegis_request_body_bytes_total{dialect="openai.chat",route="openai"}'] == 500
    assert found['aegis_response_body_bytes_total{dialect="openai.chat",route="openai"}'] == 2000
    where = 'dialect="openai.chat",route="openai"'
    assert pytest.approx(found[f"aegis_exchange_duration_seconds_sum{{{where}}}"]) == 1.102
    assert pytest.approx(found[f"aegis_exchange_time_to_upstream_seconds_sum{{{where}}}"]) == 0.002
    for name, seconds in {
        "gen_ai_client_operation_duration_seconds": 1.1,
        "gen_ai_server_request_duration_seconds": 1.1,
        "gen_ai_client_operation_time_to_first_chunk_seconds": 0.1,
        "gen_ai_server_time_to_first_token_seconds": 0.1,
        "gen_ai_server_time_per_output_token_seconds": 0.1,
    }.items():
        assert found[f"{name}_count{{{GEN_AI},{SERVER}}}"] == 1
        assert seconds == pytest.approx(found[f"{name}_sum{{{GEN_AI},{SERVER}}}"])
    for kind, tokens in {"input": 30, "output": 11}.items():
        assert tokens == found[f'gen_ai_client_token_usage_sum{{{GEN_AI},gen_ai_token_type="{kind}",{SERVER}}}']


def test_an_exchange_that_never_left_the_pod_is_no_operation_of_the_provider() -> None:
    telemetry = Telemetry(Registry())

    telemetry.record(DENIED)

    found = samples([telemetry.snapshot()])
    assert not [name for name in found if name.startswith("gen_ai")]
    assert (
        found['aegis_exchanges_total{dialect="openai.chat",result="denied_airlock",route="openai",status_class="4xx"}']
        == 1
    )


def test_tokens_that_the_provider_did_not_count_are_not_reported() -> None:
    """The convention: MUST NOT report if tokens cannot be obtained efficiently."""
    telemetry = Telemetry(Registry())

    telemetry.record(STREAMED._replace(input_tokens=None, output_tokens=None))

    found = samples([telemetry.snapshot()])
    assert not [name for name in found if "token" in name.partition("{")[0] and "first_token" not in name]


def test_a_client_cannot_make_labels_of_models_that_no_provider_confirmed() -> None:
    telemetry = Telemetry(Registry())
    refused = STREAMED._replace(result=ResultCode.UPSTREAM_REFUSED, status=404, response_model="")

    for n in range(200):
        telemetry.record(refused._replace(request_model=f"invented-{n}"))
    telemetry.record(STREAMED)

    found = samples([telemetry.snapshot()])
    models = {name.split('gen_ai_request_model="')[1].split('"')[0] for name in found if name.startswith("gen_ai")}
    assert {"other", "gpt-4o"} == models
    assert any('error_type="404"' in name for name in found)


def test_text_in_the_model_field_is_no_label() -> None:
    telemetry = Telemetry(Registry())

    endpoint = replace(STREAMED.endpoint, route="a\nb")
    telemetry.record(STREAMED._replace(request_model="my ssn is 078-05-1120", endpoint=endpoint))

    assert not [name for name in samples([telemetry.snapshot()]) if "078" in name or "a\nb" in name]


def test_the_least_recent_model_makes_room_after_an_hour_and_takes_its_series_along() -> None:
    registry = Registry()
    telemetry = Telemetry(registry)
    clock = count(STREAMED.ended_at, 1)
    for n in range(64):
        telemetry.record(STREAMED._replace(request_model=f"m{n}", response_model="", ended_at=UnixNanos(next(clock))))
    telemetry.record(STREAMED._replace(request_model="early", response_model="", ended_at=UnixNanos(next(clock))))
    later = UnixNanos(next(clock) + MODEL_IDLE)
    telemetry.record(STREAMED._replace(request_model="late", response_model="", ended_at=later))

    found = samples([telemetry.snapshot()])

    def seen(model: str) -> bool:
        return any(f'gen_ai_request_model="{model}"' in name for name in found)

    assert seen("late")
    assert seen("m1")
    assert not seen("m0")
    assert not seen("early")


def test_a_model_in_steady_use_is_never_the_one_that_makes_room() -> None:
    registry = Registry()
    telemetry = Telemetry(registry)
    steady = STREAMED._replace(request_model="steady", response_model="")
    for quarter in range(9):
        now = UnixNanos(STREAMED.ended_at + quarter * MODEL_IDLE // 4)
        telemetry.record(steady._replace(ended_at=now))
        for n in range(64):
            model = f"m{n}" if quarter == 0 else f"new{quarter}-{n}"
            telemetry.record(steady._replace(request_model=model, ended_at=now))

    found = samples([telemetry.snapshot()])

    assert any('gen_ai_request_model="steady"' in name for name in found)


def test_forgetting_is_bounded_by_the_limit() -> None:
    forgotten: list[str] = []
    recent = RecentNames(2, idle=10, forget=forgotten.append)

    labels = [recent.label(name, now, confirmed=True) for now, name in enumerate(["a", "b", "c", "a"])]

    assert labels == ["a", "b", "other", "a"]
    assert recent.label("c", 20, confirmed=True) == "c"
    assert forgotten == ["b"]
    assert recent.label("", 20, confirmed=True) == "none"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "none"),
        ("gpt-4o", "gpt-4o"),
        ("models/gemini-2.5:x@1", "models/gemini-2.5:x@1"),
        ("a b", "other"),
        ("x" * 129, "other"),
        ("-x", "other"),
        ("é", "other"),
    ],
)
def test_only_what_looks_like_a_name_is_one(text: str, name: str) -> None:
    assert name == plain_name(text)


@pytest.mark.parametrize("result", list(ResultCode))
def test_every_result_has_a_bounded_error_type(result: ResultCode) -> None:
    error = error_type(STREAMED._replace(result=result, status=200))

    assert (error == "none") == (result is ResultCode.FORWARDED)
    assert error == plain_name(error)


@pytest.mark.parametrize(("status", "name"), [(200, "2xx"), (429, "4xx"), (0, "none"), (599, "5xx"), (999, "none")])
def test_statuses_become_classes(status: int, name: str) -> None:
    assert name == status_class(status)


def test_connections_are_counted_and_how_many_stand() -> None:
    telemetry = Telemetry(Registry())

    telemetry.connection_opened()
    telemetry.connection_opened()
    telemetry.connection_closed()
    telemetry.upstream_connected("openai", reused=True)

    found = samples([telemetry.snapshot()])
    assert found["aegis_connections_total{}"] == 2
    assert found["aegis_connections_open{}"] == 1
    assert found['aegis_upstream_requests_total{reused="true",upstream="openai"}'] == 1


def test_records_do_not_pile_up_when_nobody_folds() -> None:
    registry = Registry()
    telemetry = Telemetry(registry)

    for _ in range(MAX_PENDING):
        telemetry.record(STREAMED)

    counted = registry.counter(names.EXCHANGES).values()
    assert list(counted.values()) == [MAX_PENDING]


@pytest.mark.looptime
async def test_the_flusher_folds_without_being_asked() -> None:
    registry = Registry()
    telemetry = Telemetry(registry)

    async with asyncio.TaskGroup() as tasks:
        flusher = tasks.create_task(telemetry.run())
        for _ in range(100):
            telemetry.record(STREAMED)
        await asyncio.sleep(1)
        flusher.cancel()

    assert list(registry.counter(names.EXCHANGES).values().values()) == [100]


def test_without_an_exporter_a_callers_context_passes_as_it_is_and_none_begins() -> None:
    telemetry = Telemetry(Registry())

    assert telemetry.trace(CALLER + "01") == (CALLER + "01", "00f067aa0ba902b7")
    assert telemetry.trace("") == ("", "")
    assert telemetry.trace("00-zz") == ("", "")


def test_with_an_exporter_the_callers_trace_is_joined_and_its_decision_followed() -> None:
    telemetry = Telemetry(Registry(), spans=Kept(), sample_ratio=0.0)

    for flags in ("00", "01"):
        sent, parent = telemetry.trace(CALLER + flags)

        assert parent == "00f067aa0ba902b7"
        context = parse_traceparent(sent)
        assert context is not None
        assert context.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert context.span_id != "00f067aa0ba902b7"
        assert int(flags) == context.flags


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_bad_context_starts_a_new_trace_sampled_by_ratio(ratio: float) -> None:
    telemetry = Telemetry(Registry(), spans=Kept(), sample_ratio=ratio)

    sent, parent = telemetry.trace("00-" + "0" * 32 + "-b7ad6b7169203331-01")

    context = parse_traceparent(sent)
    assert context is not None
    assert bool(ratio) == context.sampled
    assert parent == ""


def test_ids_never_repeat() -> None:
    telemetry = Telemetry(Registry(), spans=Kept())

    seen = [telemetry.trace("")[0] for _ in range(300)]

    assert 300 == len({context[3:35] for context in seen}) == len({context[36:52] for context in seen})


def test_the_span_sink_is_told_of_each_record_with_a_trace() -> None:
    kept = Kept()
    telemetry = Telemetry(Registry(), spans=kept)

    telemetry.record(STREAMED)
    telemetry.record(STREAMED._replace(traceparent=""))
    telemetry.fold(10)

    assert kept.records == [STREAMED]


def test_the_process_tells_its_memory_and_its_version() -> None:
    registry = Registry()
    watch_process(registry, version="0.1.0", started_at=1.0)

    found = samples([registry.snapshot()])

    assert found["process_resident_memory_bytes{}"] > 5e6
    assert found["process_open_fds{}"] > 2
    assert found["process_cpu_seconds_total{}"] > 0
    assert found["process_start_time_seconds{}"] == 1
    assert any('version="0.1.0"' in name for name in found)


def test_what_policies_noticed_is_not_counted_as_identifiers() -> None:
    telemetry = Telemetry(Registry())

    telemetry.record(STREAMED._replace(findings={"us_ssn": 2, "protocol.honeypot": 1}))

    found = samples([telemetry.snapshot()])
    assert found['aegis_policy_findings_total{finding="protocol.honeypot",route="openai"}'] == 1
    assert [name for name in found if name.startswith("aegis_identifiers_total{")] == [
        'aegis_identifiers_total{label="us_ssn",route="openai"}'
    ]
