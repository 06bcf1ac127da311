"""How the simulated model behaves: by flag for all requests, by header or model name for one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import parse_qsl

from settings import Address, ByteSize, Finding, Range, Seconds, SettingsError, load

HEADER_PREFIX: Final = "x-simulate-"


class Reply(StrEnum):
    """What the model answers."""

    ECHO = "echo"
    """`You said: ` and the text of the last message; a MathProtocol answer when the system prompt asks for one."""
    ECHO_ALL = "echo-all"
    """`You said: ` and every text of the prompt, one per line."""
    TEXT = "text"
    """The setting `text`, whatever was asked."""


class Framing(StrEnum):
    """What ends a line of an event stream; the standard allows all three."""

    LF = "lf"
    CRLF = "crlf"
    CR = "cr"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """The simulated model. All but `listen`, `remember` and `max_body` can also be set for one request.

    By header, `x-simulate-delta-characters: 1`, or in the model's name, `any?delta-characters=1&status=429`.
    """

    listen: Address = Address("127.0.0.1", 15099)
    """Where the model is served. Port 0 takes a free one, which is printed."""
    remember: Annotated[int, Range(0, 10_000)] = 64
    """How many of the last requests /_seen shows."""
    max_body: Annotated[ByteSize, Range(1024, 1 << 30)] = 64 << 20
    """Largest request body."""
    reply: Reply = Reply.ECHO
    """What the model answers."""
    text: str = "Hello."
    """The answer of `reply = text`."""
    tool_calls: Annotated[int, Range(0, 16)] = 0
    """Tool calls in every answer; their arguments repeat what the model was told."""
    thinking: bool = False
    """Anthropic: whether a signed thinking block stands before the text."""
    ascii: bool = False
    """Whether everything outside ASCII is written as an escape in JSON."""
    delta_characters: Annotated[int, Range(1, 1 << 20)] = 4
    """Characters of text in one event of a stream."""
    write_bytes: Annotated[int, Range(0, 1 << 20)] = 0
    """Bytes of a stream in one write, cutting events anywhere; 0: one event in one write."""
    framing: Framing = Framing.LF
    """What ends a line of the event stream."""
    ttft: Seconds = 0.0
    """Wait before the answer begins."""
    event_delay: Seconds = 0.0
    """Wait before every further event."""
    status: Annotated[int, Range(0, 599)] = 0
    """Answer with this error status in the provider's shape; 0: answer."""
    retry_after: str = ""
    """The retry-after header of an error; empty: none."""
    error_after: Annotated[int, Range(0)] | None = None
    """Events after which the stream carries the provider's error event and ends."""
    die_after: Annotated[int, Range(0)] | None = None
    """Events after which the connection breaks; in an unstreamed answer it breaks half way."""
    stall_after: Annotated[int, Range(0)] | None = None
    """Events after which nothing more comes while the connection stays open."""

    def check(self) -> Iterable[Finding]:
        """An error status needs to be one."""
        if 0 < self.status < 400:
            yield Finding("status", f"expected 0 or 400 to 599, got {self.status}")


_OF_THE_PROCESS: Final = {"listen", "remember", "max_body"}


def for_request(config: SimulatorConfig, headers: Mapping[str, str], model: str) -> SimulatorConfig:
    """The behaviour for one request. Raises SettingsError naming every wrong override."""
    given = dict(parse_qsl(model.partition("?")[2], keep_blank_values=True))
    ours = [name for name in headers if name.startswith(HEADER_PREFIX)]
    given |= {name.removeprefix(HEADER_PREFIX): headers[name] for name in ours}
    if not given:
        return config
    overrides = {name.replace("-", "_"): text for name, text in given.items()}
    known = {field.name for field in fields(config)} - _OF_THE_PROCESS
    if unknown := overrides.keys() - known:
        raise SettingsError([Finding(name, "cannot be set for one request") for name in sorted(unknown)])
    parsed = load(SimulatorConfig, prefix="", flags=overrides).config
    return replace(config, **{name: getattr(parsed, name) for name in overrides})
