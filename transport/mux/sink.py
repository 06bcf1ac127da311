"""Who is told what the peer did."""

from typing import Protocol

from transport.mux.frames import Code
from transport.mux.headers import Headers


class Sink(Protocol):
    """Who is told what the peer did. May call the mux back, except `receive`."""

    def stream_opened(self, stream: int, headers: Headers, *, ended: bool) -> None:
        """The peer opened a stream; `ended`: and will send nothing on it."""

    def stream_data(self, stream: int, data: memoryview, *, ended: bool) -> None:
        """Bytes came, perhaps none. Valid during this call; say `consumed` when they are done with."""

    def stream_reset(self, stream: int, code: Code) -> None:
        """The peer dropped the stream. REFUSED: it never served it."""

    def stream_writable(self, stream: int) -> None:
        """The queue of a stream for which `send` returned False is short again."""

    def pong(self, opaque: bytes) -> None:
        """The answer to a `ping`."""

    def going_away(self, code: Code) -> None:
        """The peer takes no new streams; those it does not serve were reset just before."""
