"""Log lines as an operator's collector gets them."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability import names
from observability.logs import JsonFormatter, RepeatFilter, ThreadedHandler, plain, set_level, set_up_logging
from observability.metrics import Registry
from observability.redaction import scrub
from policies.errors import PolicyError

OURS = logging.getLogger("sidecar.test")
FOREIGN = logging.getLogger("asyncio.test")
KEYS = [
    "sk-proj-abcdefghijkl",
    "sk-ant-api03-CANARY_canary-1234",
    "Bearer abc.def-123",
    "authorization: Basic dXNlcjpwYXNz",
    "x-api-key: CANARYKEY",
    '"api_key": "CANARYKEY"',
    "https://user:CANARYpass@example.com/",
    "?key=1&token=CANARYTOKEN&x=2",
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJDQU5BUlkifQ.c2ln",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijklmnopqrstu",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "-----BEGIN EC PRIVATE KEY-----\nCANARY\n-----END EC PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nCANARY cut off",
    "[US-SSN-7K2Q9F]",
]


class Logged:
    """What was written so far; `stop` waits for the writer."""

    def __init__(self, registry: Registry, level: str) -> None:
        self._stream = io.StringIO()
        self.stop = set_up_logging(self._stream, registry, level=level)

    def lines(self) -> list[dict[str, object]]:
        self.stop()
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def logged(registry: Registry) -> Iterator[Logged]:
    logged = Logged(registry, "debug")
    yield logged
    logged.stop()


def test_a_line_is_one_json_object_with_the_event_and_its_fields(logged: Logged) -> None:
    OURS.warning("ledger unreachable", extra={"address": "10.0.0.7:8463", "retry_in": 2.5, "attempts": [1, 2]})

    (line,) = logged.lines()

    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "sidecar.test",
        "event": "ledger unreachable",
        "address": "10.0.0.7:8463",
        "retry_in": 2.5,
        "attempts": [1, 2],
    }


@pytest.mark.parametrize("secret", KEYS)
def test_keys_never_reach_a_line_whatever_field_they_are_in(logged: Logged, secret: str) -> None:
    OURS.error(secret, extra={"one": secret, "deep": {"two": [secret]}, secret: 1})
    try:
        raise PolicyError(secret)
    except PolicyError:
        OURS.exception("failed")

    lines = json.dumps(logged.lines())

    assert "[redacted]" in lines
    assert json.dumps(secret)[1:-1] not in lines
    assert "CANARY" not in lines


@pytest.mark.parametrize(
    "text", ["sidecar.audit.shipper", "task-based", "2026-11-20T10:00:00Z", "[1, 2]", "token bucket", "http://a:80/b"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert text == scrub(text)


def test_a_foreign_exceptions_message_is_not_written_because_it_may_quote_the_prompt(logged: Logged) -> None:
    try:
        json.loads('{"prompt": CANARY}')
    except ValueError as error:
        try:
            raise KeyError("CANARY") from error
        except KeyError:
            OURS.exception("failed")

    (line,) = logged.lines()

    assert "CANARY" not in json.dumps({k: v for k, v in line.items() if k != "stack"})
    assert (line["error"], line["cause"]) == ("KeyError", "JSONDecodeError")
    assert "test_logs.py:" in str(line["stack"])


def test_our_own_messages_and_the_operating_systems_are_written(logged: Logged, tmp_path: Path) -> None:
    for error in (PolicyError("route openai: no such upstream"), FileNotFoundError(2, "No such file or directory")):
        try:
            raise error
        except (PolicyError, OSError):
            OURS.exception("failed")

    messages = [line["error_message"] for line in logged.lines()]

    assert messages == ["route openai: no such upstream", "No such file or directory"]


def test_the_errors_of_a_group_are_named(logged: Logged) -> None:
    try:
        raise ExceptionGroup("tasks", [ValueError("CANARY"), KeyError("CANARY")])
    except ExceptionGroup:
        OURS.exception("failed")

    (line,) = logged.lines()

    assert line["errors"] == ["ValueError", "KeyError"]


def test_what_a_foreign_library_filled_in_is_cut_off(logged: Logged) -> None:
    """asyncio writes the arguments of a failed callback into its message: there stands the body."""
    FOREIGN.error("Exception in callback Protocol.data_received(b'CANARY')\nhandle: <CANARY>")
    FOREIGN.error("unexpected frame %r", "CANARY")
    FOREIGN.info("body: CANARY")

    lines = logged.lines()

    assert [line["event"] for line in lines] == ["Exception in callback Protocol.data_received", "unexpected frame"]
    assert "CANARY" not in json.dumps(lines)


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary() | st.floats(), st.lists, max_leaves=50))
def test_any_field_value_makes_one_valid_line(value: object) -> None:
    record = logging.makeLogRecord({"name": "sidecar", "msg": "event", "levelno": 20, "levelname": "INFO", "x": value})

    line = JsonFormatter().format(record)

    assert json.loads(line)["event"] == "event"
    assert "\n" not in line


def test_values_that_are_not_plain_become_their_type() -> None:
    assert plain(b"abc") == "<3 bytes>"
    assert plain(object()) == "<object>"
    assert plain(ValueError("CANARY")) == "ValueError"
    assert plain([[["deep"]]], depth=1) == ["<list>"]
    assert len(str(plain("x" * 10_000))) == 512
    assert plain("\ud800") == "?"


def test_a_repeated_warning_is_held_back_and_its_number_told(registry: Registry) -> None:
    repeat = RepeatFilter(registry, burst=2, window=10, max_events=2)

    def record(created: float, event: str = "again", level: int = logging.WARNING) -> logging.LogRecord:
        return logging.makeLogRecord({"name": "sidecar", "msg": event, "levelno": level, "created": created})

    passed = [repeat.filter(record(now)) for now in (0, 1, 2, 3)]
    late = record(10)

    assert passed == [True, True, False, False]
    assert repeat.filter(late)
    assert late.suppressed == 2
    assert repeat.filter(record(10, "other event"))
    assert all(repeat.filter(record(now, level=logging.INFO)) for now in range(20))
    assert registry.counter(names.LOGS_SUPPRESSED).values()[("repeated",)] == 2


def test_a_client_cannot_grow_the_table_of_events(registry: Registry) -> None:
    repeat = RepeatFilter(registry, burst=1, max_events=8)

    for n in range(100):
        repeat.filter(logging.makeLogRecord({"msg": f"event {n}", "levelno": 40, "created": 0.0}))

    assert len(repeat._seen) == 8


def test_a_full_pipe_loses_lines_instead_of_stopping_the_loop(registry: Registry) -> None:
    class Stuck(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.writing, self.freed = threading.Event(), threading.Event()

        def write(self, text: str) -> int:
            self.writing.set()
            self.freed.wait()
            return super().write(text)

    stream = Stuck()
    handler = ThreadedHandler(stream, registry, max_queued=3)
    record = logging.makeLogRecord({"msg": "event"})
    handler.emit(record)
    stream.writing.wait()

    for _ in range(10):
        handler.emit(record)

    stream.freed.set()
    handler.close()
    assert len(stream.getvalue().splitlines()) == 4
    assert registry.counter(names.LOGS_SUPPRESSED).values()[("queue_full",)] == 7


def test_a_closed_stream_ends_the_writer_and_nothing_else(registry: Registry) -> None:
    stream = io.StringIO()
    stream.close()
    handler = ThreadedHandler(stream, registry)

    handler.emit(logging.makeLogRecord({"msg": "event"}))

    handler.close()


def test_the_level_can_be_changed_while_running(logged: Logged) -> None:
    set_level("error")
    OURS.warning("quiet")
    set_level("info")
    OURS.info("heard")

    assert [line["event"] for line in logged.lines()] == ["heard"]
    with pytest.raises(ValueError, match="log level"):
        set_level("loud")
