"""What the simulated model saw last, for whoever wants to check that nothing leaked."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

MAX_BODY_SHOWN: Final = 1 << 20
"""Bytes of one body."""

_CREDENTIALS: Final = {"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "x-goog-api-key"}


class Sighting:
    """One request and what became of its answer."""

    __slots__ = ("body", "headers", "outcome", "path", "serial")

    def __init__(self, serial: int, path: str, headers: Mapping[str, str]) -> None:
        self.serial = serial
        self.path = path
        self.headers = {name: value for name, value in headers.items() if name not in _CREDENTIALS}
        self.body = b""
        self.outcome = "answering"
        """`answering`, `complete`, `client gone`, `refused` or `broken off`."""

    def as_json(self) -> dict[str, Any]:
        """For /_seen."""
        return {
            "serial": self.serial,
            "path": self.path,
            "headers": self.headers,
            "body": self.body.decode("utf-8", "replace"),
            "outcome": self.outcome,
        }


class Seen:
    """The last requests, oldest first. Not thread-safe; one event loop owns it."""

    def __init__(self, remember: int) -> None:
        self._sightings: deque[Sighting] = deque(maxlen=remember)
        self._serial = 0

    def note(self, path: str, headers: Mapping[str, str]) -> Sighting:
        """Remember a request; the caller adds the body and keeps the outcome true."""
        self._serial += 1
        sighting = Sighting(self._serial, path, headers)
        self._sightings.append(sighting)
        return sighting

    def forget(self) -> None:
        """Start afresh; serial numbers go on."""
        self._sightings.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """For /_seen."""
        return [sighting.as_json() for sighting in self._sightings]
