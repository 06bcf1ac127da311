"""What honest ends of a tunnel say, for the fuzzer to begin from."""

from tests.transport.mux.ends import Ends
from transport.mux.frames import Code
from transport.tunnel.greeting import Greeting, encode_reply, encode_service


def mux_seeds() -> list[bytes]:
    """Flights of either end, behind a byte that chooses who reads them."""
    ends = Ends()
    first = ends.dialler.open({"traceparent": "00-1-2-01"})
    second = ends.dialler.open({}, end=True)
    ends.dialler.send(first, b"request", end=True)
    ends.dialler.ping(b"12345678")
    up = b"".join(iter(ends.dialler.take, b""))
    ends.acceptor.receive(up, 0.0)
    ends.acceptor.send(first, bytes(200), end=True)
    ends.acceptor.reset(second, Code.UNAVAILABLE)
    ends.acceptor.go_away()
    down = b"".join(iter(ends.acceptor.take, b""))
    others = [Greeting(True, 7, bytes(48)).encode(), encode_reply(bytes(48)), encode_service("billing.internal")]
    flights = [(0, up), (2, up), (1, down), (3, down), *((0, other) for other in others)]
    return [bytes([choice]) + flight for choice, flight in flights]
