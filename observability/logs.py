"""Logs: one JSON object a line on standard error, written by a thread so that a full pipe never stops the loop.

    logger.warning("ledger unreachable", extra={"address": "10.0.0.7:8463", "retry_in": 2.5})
    {"time":"2026-11-20T10:00:00.123Z","level":"warning","logger":"sidecar.audit.shipper","event":"ledger unreachable",
     "address":"10.0.0.7:8463","retry_in":2.5}

The message is the stable name of the event; what varies goes into `extra`. What keeps secrets out:
- Only simple values pass: numbers, booleans, short strings, flat lists and mappings of them. Bytes become their length.
- Every string goes through `redaction.scrub`.
- Of an exception the type and the frames are written. Its message only when the type is ours (our messages are written
  never to hold text) or the operating system's; a foreign parser may quote what it could not parse.
- Of a foreign library's record only the part before anything that it filled in, and nothing below WARNING.

Repeated warnings and errors are held back: `burst` of one event within `window`, then one line with `suppressed`.
"""

import logging
import queue
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

import msgspec

from observability import names
from observability.metrics import Registry
from observability.redaction import scrub

OURS: Final = frozenset({
    *("aegis", "commands", "controlplane", "ledger", "observability", "policies", "settings", "sidecar", "simulator"),
    "transport",
})  # fmt: skip
"""First parts of the logger and module names whose messages this project wrote."""
MAX_QUEUED: Final = 10_000
MAX_TEXT: Final = 512
MAX_ITEMS: Final = 32
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

Field = str | int | float | bool | None | list["Field"] | dict[str, "Field"]


class JsonFormatter(logging.Formatter):
    """One line of JSON for a record; see the module for what stays out."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Field] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in line:
                line[str(plain(name))] = plain(value)
        if record.exc_info and record.exc_info[1] is not None:
            line.update(exception_fields(record.exc_info[1]))
        return msgspec.json.encode(line).decode()


def plain(value: object, depth: int = 2) -> Field:
    """`value` as something that may be written: bounded, scrubbed, and the type's name for what is not plain."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return scrub(value[: 4 * MAX_TEXT])[:MAX_TEXT].encode("utf-8", "replace").decode()
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping() if depth:
            return {str(plain(str(k))): plain(v, depth - 1) for k, v in list(value.items())[:MAX_ITEMS]}
        case list() | tuple() | set() | frozenset() if depth:
            return [plain(item, depth - 1) for item in list(value)[:MAX_ITEMS]]
        case BaseException():
            return type(value).__name__
        case _:
            return f"<{type(value).__name__}>"


def exception_fields(error: BaseException) -> dict[str, Field]:
    """Type, frames and, where it is safe, message of `error`; the types of what caused it."""
    fields: dict[str, Field] = {"error": type(error).__name__}
    message = _safe_message(error)
    if message:
        fields["error_message"] = message
    frames = traceback.extract_tb(error.__traceback__)[-MAX_ITEMS:]
    fields["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        fields["cause"] = type(cause).__name__
    if isinstance(error, BaseExceptionGroup):
        fields["errors"] = [type(inner).__name__ for inner in error.exceptions[:MAX_ITEMS]]
    return fields


class RepeatFilter(logging.Filter):
    """Lets `burst` records of one event pass within `window` seconds and counts the rest."""

    def __init__(self, registry: Registry, *, burst: int = 10, window: float = 10.0, max_events: int = 512) -> None:
        super().__init__()
        self._burst = burst
        self._window = window
        self._max_events = max_events
        self._suppressed = registry.counter(names.LOGS_SUPPRESSED)
        self._lock = threading.Lock()
        """Held while `_seen` is used: logging calls filters from every thread, before it takes a lock of its own."""
        self._seen: OrderedDict[tuple[str, str, int], list[float]] = OrderedDict()
        """Event -> [start of its window, passed in it, suppressed in it]."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        with self._lock:
            return self._passes(record)

    def _passes(self, record: logging.LogRecord) -> bool:
        key = (record.name, str(record.msg), record.levelno)
        seen = self._seen.get(key)
        if seen is None or record.created - seen[0] >= self._window:
            if seen is not None and seen[2]:
                record.suppressed = int(seen[2])
            self._remember(key, record.created)
            return True
        if seen[1] < self._burst:
            seen[1] += 1
            return True
        seen[2] += 1
        self._suppressed.add(("repeated",))
        return False

    def _remember(self, key: tuple[str, str, int], now: float) -> None:
        self._seen[key] = [now, 1, 0]
        self._seen.move_to_end(key)
        if len(self._seen) > self._max_events:
            self._seen.popitem(last=False)


class ThreadedHandler(logging.Handler):
    """Formats on the caller's thread, writes on its own. New lines are lost, and counted, while `max_queued` wait."""

    def __init__(self, stream: TextIO, registry: Registry, *, max_queued: int = MAX_QUEUED) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(max_queued)
        self._suppressed = registry.counter(names.LOGS_SUPPRESSED)
        self._writer = threading.Thread(target=self._write, name="logs", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._suppressed.add(("queue_full",))
        except Exception:  # noqa: BLE001 a log call must never break what it reports on; the line is counted
            self._suppressed.add(("unformattable",))

    def close(self) -> None:
        """Write what waits, for at most a second, and stop."""
        try:
            self._lines.put(None, timeout=1)
            self._writer.join(timeout=1)
        except queue.Full:
            pass
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                # Standard error is closed: there is nobody left to tell.
                return


def set_up_logging(stream: TextIO, registry: Registry, *, level: str = "info") -> Callable[[], None]:
    """Send every log record of this process to `stream` as JSON; returns what undoes it and writes what waits.

    Foreign libraries are heard from WARNING on, whatever `level` says: at DEBUG some of them print bodies.
    """
    handler = ThreadedHandler(stream, registry)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(RepeatFilter(registry))
    handler.addFilter(_ours_or_warning)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    set_level(level)

    def undo() -> None:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()

    return undo


def set_level(level: str) -> None:
    """From now on `debug`, `info`, `warning` or `error` is the least that is written. Raises ValueError."""
    if level not in {"debug", "info", "warning", "error"}:
        raise ValueError(f"log level should be debug, info, warning or error, not {level!r}")
    logging.getLogger().setLevel(level.upper())


def _ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OURS


def _ours_or_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or _ours(record)


def _event(record: logging.LogRecord) -> str:
    message = str(record.msg)
    if _ours(record):
        return str(plain(message))
    # asyncio: "Exception in callback Protocol.data_received(b'...')". Nothing after a bracket or a quote is theirs.
    for end in ("\n", "(", "{", "<", "'", '"', "%"):
        message = message.partition(end)[0]
    return str(plain(message.strip()))


def _safe_message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return str(plain(error.strerror))
    if type(error).__module__.partition(".")[0] in OURS:
        return str(plain(str(error)))
    return ""
