"""Server-sent events as bytes, cut and framed as the behaviour asks."""

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from simulator.config import Framing

_LINE_END = {Framing.LF: b"\n", Framing.CRLF: b"\r\n", Framing.CR: b"\r"}


class Stamp(NamedTuple):
    """What makes one answer different from every other."""

    serial: int
    created: int
    """Seconds since 1970."""


class Event(NamedTuple):
    """One server-sent event."""

    data: str
    """One line."""
    name: str = ""
    """The `event:` field; empty: none, as OpenAI sends it."""


def event_bytes(event: Event, framing: Framing) -> bytes:
    """The event with its empty line."""
    end = _LINE_END[framing]
    name = b"event: " + event.name.encode() + end if event.name else b""
    return name + b"data: " + event.data.encode() + end + end


def writes(encoded: bytes, held: bytes, size: int) -> tuple[list[bytes], bytes]:
    """Whole writes of `size` bytes from what was held and what came, and the rest to hold; 0: one write of any size."""
    if size == 0:
        return [encoded], b""
    joined = held + encoded
    whole = len(joined) - len(joined) % size
    return [joined[i : i + size] for i in range(0, whole, size)], joined[whole:]


def json_text(value: object, *, ascii_only: bool) -> str:
    """Compact JSON on one line, always valid UTF-8: a lone surrogate that was told is given back as its escape."""
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json_text(value, ascii_only=True)
    return text


def pieces(text: str, size: int) -> list[str]:
    """The text in deltas of `size` characters; at least one, so that an empty text still has its event."""
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


def interleaved(streams: Iterable[Iterable[Event]]) -> Iterator[Event]:
    """One event of each stream in turn, until all have ended."""
    turns = [iter(stream) for stream in streams]
    while turns:
        for turn in tuple(turns):
            event = next(turn, None)
            if event is None:
                turns.remove(turn)
            else:
                yield event
