"""A tunnel that stands: streams in protected records, and what time does to it. Sans-I/O, the same for both ends.

    session.receive(now)      after bytes were written into `session.connection`
    session.output()          bytes for the socket, until there are none
    session.tick(now)         now and then: signs of life, fresh keys, old age

Data and control frames of all streams that are ready share records; nothing is delayed to fill one.
"""

from dataclasses import dataclass
from typing import Final

from transport.mux.errors import MuxError
from transport.mux.frames import Code
from transport.mux.limits import Limits
from transport.mux.mux import Mux
from transport.mux.sink import Sink
from transport.tls13.alerts import AlertDescription, PeerAlertError, TlsError
from transport.tls13.constants import ContentType
from transport.tls13.events import ApplicationData
from transport.tunnel.binding import Established
from transport.tunnel.channel import Channel
from transport.tunnel.errors import End, TunnelLostError

CHUNK: Final = 12
"""Records that are sealed at a time, into one piece of memory for the socket: 192 KiB."""
_TYPE: Final = bytes((ContentType.APPLICATION_DATA,))


@dataclass(frozen=True, slots=True)
class Times:
    """All in seconds."""

    ping_after: float = 15.0
    """Silence after which the peer is asked for a sign of life."""
    pong_within: float = 15.0
    """Silence after that which means that nobody is there: half-open, or hung."""
    busy_ping_after: float = 2.0
    """`ping_after` while streams stand, because somebody may be waiting."""
    busy_pong_within: float = 3.0
    """`pong_within` while streams stand. A peer whose network or power went says neither FIN nor RST."""
    doubt_after: float = 1.0
    """A PING without an answer for so long, and nothing new is begun on the tunnel, though it may yet recover."""
    rekey_after: float = 600.0
    """Keys are changed after 2^20 records, after 1 GiB, and after this time in use."""
    max_age: float = 3600.0
    """Then a fresh handshake must be made: a KeyUpdate has no new Diffie-Hellman in it."""
    drain_within: float = 60.0
    """What streams get to end in peace once the tunnel goes away."""
    idle_after: float = 300.0
    """A dialler ends a tunnel that had no stream for so long."""
    look_every: float = 5.0
    """How often the clock is looked at: how late all of the above may be."""
    busy_look_every: float = 0.5
    """`look_every` while streams stand."""


class Session:
    """One end. Owned by one connection; not thread-safe."""

    def __init__(
        self,
        connection: Channel,
        established: Established,
        sink: Sink,
        *,
        opens: bool,
        now: float,
        times: Times | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`opens`: whether this end dialled. `now`: seconds, any monotonic clock."""
        self.connection: Final = connection
        self.established: Final = established
        self.mux: Final = Mux(sink, opens=opens, now=now, limits=limits)
        self.times: Final = times or Times()
        self.is_confirmed = not opens
        """Whether the peer was heard under the new keys: it took our message 3 and admitted us."""
        self._opens = opens
        self._born = self._heard = self._rekeyed = self._busy = now
        self._asked: float | None = None
        """When an unanswered PING was sent."""
        self._doubts = False
        """Whether it was unanswered for `doubt_after`."""
        self._leaving: float | None = None
        """When GOAWAY was sent."""
        if not opens:
            self.mux.ping(b"admitted")  # tells a dialler at once that it is

    @property
    def is_over(self) -> bool:
        """Whether all streams ended after a GOAWAY: the connection can be closed in order."""
        return self.mux.is_drained

    @property
    def is_doubtful(self) -> bool:
        """Whether a PING has been without an answer for longer than a sound peer takes: begin nothing new."""
        return self._doubts and self._asked is not None and self._heard < self._asked

    @property
    def look_every(self) -> float:
        """Seconds until `tick` should be called next."""
        return self.times.busy_look_every if self.mux.streams else self.times.look_every

    def receive(self, now: float) -> None:
        """Tell the sink all that came. Raises TunnelLostError; the connection may then have more to send."""
        try:
            while True:
                # `_take` tells a failure of the first records from later ones; after that it would only cost.
                if self.connection.burst(self.mux.receive if self.is_confirmed else self._take, now):
                    self._heard = now
                event = self.connection.next_event()
                if event is None:
                    return
                if not isinstance(event, ApplicationData):
                    raise TunnelLostError(End.PEER_CLOSED, "the peer closed the tunnel")
                self._take(event.data, now)
        except MuxError as error:
            self.connection.send(self.mux.take())
            self.connection.close()
            raise TunnelLostError(End.PROTOCOL, f"the peer broke a rule: {error}") from error
        except PeerAlertError as error:
            end = End.PROTOCOL if self.is_confirmed else End.NOT_ADMITTED
            raise TunnelLostError(end, f"the peer ended the tunnel: {error}") from error
        except TlsError as error:
            if self.is_confirmed:
                raise TunnelLostError(End.PROTOCOL, str(error)) from error
            # An alert from before the change of keys: the peer could not read message 3, so it has not our TLS
            # connection. Somebody stands in between.
            raise TunnelLostError(End.NOT_ADMITTED, "the peer did not take our third Noise message") from error

    def output(self) -> bytes | bytearray:
        """The next bytes for the socket; empty: nothing for now."""
        if records := self.mux.records(CHUNK, _TYPE):
            self.connection.send_inner(records)
        return self.connection.data_to_send()

    def _take(self, data: memoryview, now: float) -> None:
        self._heard = now
        self.is_confirmed = True
        self.mux.receive(data, now)

    def tick(self, now: float) -> None:
        """Every few seconds. Raises TunnelLostError when nobody is there any more, or streams do not end."""
        times = self.times
        self._look_for_life(now)
        if now - self._rekeyed >= times.rekey_after:
            self._rekeyed = now
            self.connection.update_keys()
        if self.mux.streams:
            self._busy = now
        is_idle = self._opens and now - self._busy >= times.idle_after
        # Who dialled leaves first, so that no request is under way to somebody who is leaving.
        is_old = now - self._born >= (times.max_age if self._opens else times.max_age + times.drain_within)
        if self._leaving is None and (is_idle or is_old):
            self.go_away(now)
        if self._leaving is not None and now - self._leaving >= times.drain_within:
            raise TunnelLostError(End.CLOSED, "streams did not end in the time that a closing tunnel has")

    def _look_for_life(self, now: float) -> None:
        times, is_busy = self.times, self.mux.streams > 0
        if self._asked is not None and self._heard >= self._asked:
            self._asked = None
            self._doubts = False
        if self._asked is None:
            if now - self._heard >= (times.busy_ping_after if is_busy else times.ping_after):
                self._asked = now
                self.mux.ping(b"answer??")
            return
        waited = now - self._asked
        if waited >= (times.busy_pong_within if is_busy else times.pong_within):
            raise TunnelLostError(End.SILENT, "no sign of life: the peer hangs, or a middlebox forgot the connection")
        self._doubts = waited >= times.doubt_after

    def go_away(self, now: float) -> None:
        """Take no new streams, let those that stand end."""
        if self._leaving is None:
            self._leaving = now
            self.mux.go_away()

    def close(self, code: Code = Code.NO_ERROR) -> None:
        """The last words: GOAWAY and close_notify, to be sent with `output`. Streams that stand are lost."""
        self.mux.go_away(code)
        self.connection.send(self.mux.take())
        self.connection.close()

    def revoke(self) -> None:
        """The peer's key is not good any more: the last word is an alert."""
        self.connection.abort(AlertDescription.ACCESS_DENIED, "the static key was revoked")
