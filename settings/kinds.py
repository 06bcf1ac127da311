"""The types a setting may have, and how each is read from text or from a file and written back.

A field's annotation decides: `int`, `float`, `str`, `bool`, `Path`, a `StrEnum`, `Address`, `Seconds`, `ByteSize`,
`Secret`, `tuple[X, ...]` of these, `X | None`, and `Annotated[int | float, Range(low, high)]`.
"""

import math
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Union, get_args, get_origin


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port. The host is a name or an IP address, without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in {"localhost", "::1"} or bool(re.fullmatch(r"127\.\d+\.\d+\.\d+", self.host))


@dataclass(frozen=True, slots=True)
class Range:
    """Both ends are allowed; None means unbounded."""

    low: float | None = None
    high: float | None = None


class Unit(StrEnum):
    """How a number is written."""

    SECONDS = "seconds"
    BYTES = "bytes"


class Hidden(StrEnum):
    """Marks a value that is never printed and has no flag, because command lines are public."""

    SECRET = "secret"  # noqa: S105 a marker, not a secret


Seconds = Annotated[float, Unit.SECONDS, Range(0)]
"""A duration in seconds: `30`, `250ms`, `30s`, `5m`, `1h30m`, `2d`."""

ByteSize = Annotated[int, Unit.BYTES, Range(0)]
"""A size in bytes: `512`, `64KiB`, `32MiB`, `1GiB`."""

Secret = Annotated[str, Hidden.SECRET]
"""Text that is never printed. The field must have `repr=False`."""

Port = Annotated[int, Range(0, 65535)]
"""A TCP port; 0 lets the operating system choose."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one type are read and written."""

    expected: str
    """What a value looks like, as the object of "expected ..."."""
    parse: Callable[[object], object]
    """From text (flag, environment) or from a TOML/YAML value; raises ValueError or TypeError."""
    show: Callable[[Any], object]
    """To a TOML value: str, bool, int, float or a list of these. None stands for "not set"."""
    is_list: bool = False
    is_switch: bool = False
    is_secret: bool = False


def kind_of(annotation: Any) -> Kind:
    """The kind of an annotation. Raises TypeError for a type that no setting can have: a mistake in the program."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(args[0], args[1:])
    if origin in {Union, types.UnionType} and len(args) == 2 and type(None) in args:
        return _optional(kind_of(next(arg for arg in args if arg is not type(None))))
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _many(kind_of(args[0]))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return Kind("one of " + ", ".join(annotation), lambda value: annotation(_text(value)), str)
    if annotation not in _PLAIN:
        raise TypeError(f"no setting can have the type {annotation!r}")
    return _PLAIN[annotation]


def _annotated(annotation: Any, marks: tuple[object, ...]) -> Kind:
    kind = kind_of(annotation)
    if Unit.SECONDS in marks:
        kind = Kind("a duration such as 250ms, 30s, 5m or 1h30m", _seconds, _show_seconds)
    elif Unit.BYTES in marks:
        kind = Kind("a size such as 512, 64KiB or 32MiB", _bytes, _show_bytes)
    elif Hidden.SECRET in marks:
        kind = Kind("text", _text, str, is_secret=True)
    limits = [mark for mark in marks if isinstance(mark, Range)]
    # The alias brings a Range of its own; the one written last, at the field, is the one meant.
    return _limited(kind, limits[-1]) if limits else kind


def _limited(kind: Kind, limit: Range) -> Kind:
    low, high = limit.low, limit.high
    expected = kind.expected
    if low is not None and high is not None:
        expected += f" between {kind.show(low)} and {kind.show(high)}"
    elif low:
        expected += f", at least {kind.show(low)}"
    elif high is not None:
        expected += f", at most {kind.show(high)}"
    elif low == 0 and kind in (_PLAIN[int], _PLAIN[float]):
        expected += ", not negative"

    def parse(value: object) -> object:
        number: Any = kind.parse(value)
        if (low is not None and number < low) or (high is not None and number > high):
            raise ValueError
        return number

    return Kind(expected, parse, kind.show)


def _optional(kind: Kind) -> Kind:
    return Kind(
        f"{kind.expected}, or nothing",
        lambda value: None if value is None or value == "" else kind.parse(value),
        lambda value: None if value is None else kind.show(value),
        kind.is_list,
        kind.is_switch,
        kind.is_secret,
    )


def _many(kind: Kind) -> Kind:
    def parse(value: object) -> object:
        if isinstance(value, str):  # the environment has one string only
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(kind.parse(part) for part in value)

    return Kind(f"a list, each {kind.expected}", parse, lambda value: [kind.show(v) for v in value], is_list=True)


def _text(value: object) -> str:
    # YAML reads an unquoted 0123 as a number: taking str() of it would silently change what was meant.
    if not isinstance(value, str):
        raise TypeError
    return value


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}[
        _text(value).strip().lower()
    ]


def _integer(value: object) -> int:
    if isinstance(value, bool):  # bool is an int in Python, `port: yes` is a mistake in YAML
        raise TypeError
    return value if isinstance(value, int) else int(_text(value))


def _number(value: object) -> float:
    number = (
        _integer(value) if isinstance(value, int) else float(value) if isinstance(value, float) else float(_text(value))
    )
    if not math.isfinite(number):
        raise ValueError
    return float(number)


def _path(value: object) -> Path:
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise ValueError from error


def _address(value: object) -> Address:
    match = re.fullmatch(r"(?:\[([\w:.%]+)\]|([^\s:\[\]/@]+)):(\d{1,5})", _text(value).strip())
    if match is None or int(match[3]) > 65535:
        raise ValueError
    return Address(match[1] or match[2], int(match[3]))


_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def _seconds(value: object) -> float:
    if not isinstance(value, str) or re.fullmatch(r"[\d.]+", value.strip()):
        return _number(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", value)
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", value):
        raise ValueError
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def _show_seconds(value: float) -> str:
    for unit in ("d", "h", "m", "s", "ms"):
        if value >= _SECONDS[unit] and (amount := round(value / _SECONDS[unit], 9)).is_integer():
            return f"{int(amount)}{unit}"
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def _bytes(value: object) -> int:
    if not isinstance(value, str):
        return _integer(value)
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", value.strip())
    if match is None:
        raise ValueError
    return int(match[1]) * _BYTES[match[2].lower()]


def _show_bytes(value: int) -> object:
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit.lower()] == 0:
            return f"{value // _BYTES[unit.lower()]}{unit}"
    return value


_PLAIN: Final[dict[object, Kind]] = {
    str: Kind("text", _text, str),
    int: Kind("a whole number", _integer, int),
    float: Kind("a number", _number, float),
    bool: Kind("true or false", _switch, bool, is_switch=True),
    Path: Kind("a path", _path, str),
    Address: Kind("host:port such as 127.0.0.1:15080 or [::1]:15080", _address, str),
}
