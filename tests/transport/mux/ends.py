"""Two ends of a tunnel's streams, and a sink that writes down what it is told."""

from dataclasses import dataclass, field

from transport.mux.frames import Code
from transport.mux.headers import Headers
from transport.mux.limits import Limits
from transport.mux.mux import Mux


@dataclass
class Recorder:
    """Implements `Sink`."""

    mux: Mux | None = None
    eager: bool = True
    """Whether bytes are consumed as they come."""
    opened: dict[int, Headers] = field(default_factory=dict)
    data: dict[int, bytearray] = field(default_factory=dict)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """(stream, length) in the order of arrival."""
    ended: list[int] = field(default_factory=list)
    resets: dict[int, Code] = field(default_factory=dict)
    writable: list[int] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    goaways: list[Code] = field(default_factory=list)
    log: list[tuple[object, ...]] = field(default_factory=list)
    """Everything, in order."""

    def stream_opened(self, stream: int, headers: Headers, *, ended: bool) -> None:
        self.opened[stream] = headers
        self.log.append(("open", stream, dict(headers), ended))
        if ended:
            self.ended.append(stream)

    def stream_data(self, stream: int, data: memoryview, *, ended: bool) -> None:
        self.data.setdefault(stream, bytearray()).extend(data)
        self.pieces.append((stream, len(data)))
        self.log.append(("data", stream, bytes(data), ended))
        if ended:
            self.ended.append(stream)
        if self.eager and self.mux is not None and data:
            self.mux.consumed(stream, len(data))

    def stream_reset(self, stream: int, code: Code) -> None:
        self.resets[stream] = code
        self.log.append(("reset", stream, code))

    def stream_writable(self, stream: int) -> None:
        self.writable.append(stream)

    def pong(self, opaque: bytes) -> None:
        self.pongs.append(opaque)
        self.log.append(("pong", opaque))

    def going_away(self, code: Code) -> None:
        self.goaways.append(code)
        self.log.append(("goaway", code))


@dataclass
class Ends:
    """A dialler and an acceptor without a network between them."""

    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.asking, self.asked = Recorder(), Recorder()
        self.dialler = self.asking.mux = Mux(self.asking, opens=True, now=0.0, limits=self.limits)
        self.acceptor = self.asked.mux = Mux(self.asked, opens=False, now=0.0, limits=self.limits)

    def settle(self, now: float = 0.0) -> None:
        """Carry records until neither end has anything to say."""
        while self.dialler.has_output or self.acceptor.has_output:
            carry(self.dialler, self.acceptor, now)
            carry(self.acceptor, self.dialler, now)


def carry(sender: Mux, receiver: Mux, now: float = 0.0) -> int:
    """Records taken until there is none."""
    count = 0
    while record := sender.take():
        count += 1
        receiver.receive(record, now)
    return count
