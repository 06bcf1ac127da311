"""A tunnel that stands: streams over protected records, and what time and misbehaviour do to it."""

import pytest

from tests.fakes.mesh import Mesh, feed, shake, static_key
from tests.transport.mux.ends import Recorder
from transport.mux.frames import Type, frame
from transport.tls13.record import MAX_RECORDS_PER_KEY
from transport.tunnel.binding import Established
from transport.tunnel.errors import End, RefusedError, TunnelLostError
from transport.tunnel.session import Session, Times


class Pair:
    """Both sessions of one tunnel, without a network."""

    def __init__(self, mesh: Mesh | None = None, times: Times | None = None) -> None:
        self.mesh = mesh or Mesh()
        dialling, accepting = self.mesh.dial(), self.mesh.accept()
        ends = shake(dialling, accepting)
        self.asking, self.asked = Recorder(), Recorder()
        self.dialler = Session(dialling.connection, ends[0], self.asking, opens=True, now=0.0, times=times)
        self.acceptor = Session(accepting.connection, ends[1], self.asked, opens=False, now=0.0, times=times)
        self.asking.mux, self.asked.mux = self.dialler.mux, self.acceptor.mux

    def settle(self, now: float = 0.0) -> int:
        """Carry what there is both ways; how many bytes that was."""
        carried = 0
        while True:
            before = carried
            for sender, receiver in ((self.dialler, self.acceptor), (self.acceptor, self.dialler)):
                while data := sender.output():
                    carried += len(data)
                    for at in range(0, len(data), 50_000):
                        feed(receiver.connection, data[at : at + 50_000])
                        receiver.receive(now)
            if carried == before:
                return carried


def test_a_dialler_learns_that_it_was_admitted() -> None:
    pair = Pair()
    assert not pair.dialler.is_confirmed

    pair.settle()

    assert pair.dialler.is_confirmed


def test_streams_carry_bulk_both_ways() -> None:
    pair = Pair()
    stream = pair.dialler.mux.open({"a": "b"})
    pair.dialler.mux.send(stream, b"r" * 700_000, end=True)
    pair.settle()
    pair.acceptor.mux.send(stream, b"a" * 900_000, end=True)
    pair.settle()

    assert pair.asked.data[stream] == b"r" * 700_000
    assert pair.asking.data[stream] == b"a" * 900_000
    assert pair.dialler.mux.streams == 0


def test_what_is_ready_at_once_shares_a_record() -> None:
    pair = Pair()
    pair.settle()
    for _ in range(10):
        pair.dialler.mux.send(pair.dialler.mux.open({}), b"small", end=True)

    flight = pair.dialler.output()

    assert len(flight) < 10 * 22 + 22, "one record header and tag for all"
    assert pair.dialler.output() == b""


def test_keys_change_with_time_and_streams_do_not_notice() -> None:
    pair = Pair(times=Times(rekey_after=600))
    pair.settle()
    sequence = pair.dialler.connection._writer
    stream = pair.dialler.mux.open({})
    for now in (1.0, 601.0, 1201.0):
        secret = sequence._secret
        pair.dialler.tick(now)
        pair.acceptor.tick(now)
        pair.dialler.mux.send(stream, b"x" * 1000)
        pair.settle(now)
        assert (sequence._secret != secret) is (now > 600)

    assert pair.asked.data[stream] == b"x" * 3000


def test_keys_change_after_a_million_records() -> None:
    pair = Pair()
    stream = pair.dialler.mux.open({})
    pair.settle()
    writer, reader = pair.dialler.connection._writer, pair.acceptor.connection._reader
    writer._sequence = reader._sequence = MAX_RECORDS_PER_KEY

    pair.dialler.mux.send(stream, b"after the limit")
    pair.settle()

    assert pair.asked.data[stream] == b"after the limit"
    assert writer._sequence == 1


def test_silence_is_asked_and_then_given_up() -> None:
    pair = Pair(times=Times(ping_after=15, pong_within=10))
    pair.settle()
    pair.dialler.tick(14.0)
    assert not pair.dialler.mux.has_output
    pair.dialler.tick(15.0)
    assert pair.dialler.mux.has_output
    pair.dialler.tick(24.0)

    with pytest.raises(TunnelLostError) as caught:
        pair.dialler.tick(25.0)

    assert caught.value.end is End.SILENT


def test_an_answered_ping_keeps_the_tunnel() -> None:
    pair = Pair(times=Times(ping_after=15, pong_within=10, idle_after=1e9))
    pair.settle()
    for now in range(5, 500, 5):
        pair.dialler.tick(float(now))
        pair.acceptor.tick(float(now))
        pair.settle(float(now))

    assert pair.asking.pongs
    assert not pair.dialler.is_over


def test_who_waits_for_an_answer_asks_sooner_and_gives_up_sooner() -> None:
    pair = Pair()
    pair.settle()
    pair.dialler.mux.open({})
    pair.settle()
    assert pair.dialler.look_every < pair.dialler.times.look_every
    pair.dialler.tick(1.9)
    assert not pair.dialler.mux.has_output
    pair.dialler.tick(2.0)
    assert pair.dialler.mux.has_output
    pair.dialler.tick(2.9)
    assert not pair.dialler.is_doubtful
    pair.dialler.tick(3.0)
    assert pair.dialler.is_doubtful

    with pytest.raises(TunnelLostError) as caught:
        pair.dialler.tick(5.0)

    assert caught.value.end is End.SILENT


def test_a_doubt_ends_with_the_first_byte_that_comes() -> None:
    pair = Pair()
    pair.settle()
    pair.dialler.mux.open({})
    pair.dialler.tick(2.0)
    pair.dialler.tick(4.0)
    assert pair.dialler.is_doubtful

    pair.settle(4.5)

    assert not pair.dialler.is_doubtful
    pair.dialler.tick(5.5)
    assert not pair.dialler.is_doubtful


def test_a_silent_model_behind_a_living_peer_is_waited_for() -> None:
    pair = Pair()
    pair.dialler.mux.send(pair.dialler.mux.open({}), b"think hard")
    for now in range(600):
        pair.dialler.tick(now / 2)
        pair.acceptor.tick(now / 2)
        pair.settle(now / 2)

    assert not pair.dialler.is_doubtful
    assert len(pair.asking.pongs) > 100


def test_an_idle_tunnel_goes_away() -> None:
    pair = Pair(times=Times(idle_after=100, ping_after=1e9, busy_ping_after=1e9))
    stream = pair.dialler.mux.open({})
    pair.dialler.tick(99.0)
    pair.dialler.tick(200.0)
    assert pair.dialler.mux.has_room, "a stream stands"
    pair.dialler.mux.send(stream, b"", end=True)
    pair.settle(200.0)
    pair.acceptor.mux.send(stream, b"", end=True)
    pair.settle(200.0)

    pair.dialler.tick(300.0)
    pair.settle(300.0)

    assert pair.dialler.is_over
    assert pair.acceptor.is_over


def test_an_old_tunnel_takes_no_new_streams_and_lets_the_others_end() -> None:
    pair = Pair(times=Times(max_age=1000, ping_after=1e9, drain_within=50))
    stream = pair.dialler.mux.open({})
    pair.settle()
    pair.dialler.tick(1000.0)
    assert not pair.dialler.mux.has_room
    pair.dialler.mux.send(stream, b"still served")
    pair.settle(1001.0)
    assert pair.asked.data[stream] == b"still served"

    with pytest.raises(TunnelLostError) as caught:
        pair.dialler.tick(1050.0)

    assert caught.value.end is End.CLOSED


def test_an_acceptor_gives_the_dialler_time_to_leave_first() -> None:
    pair = Pair(times=Times(max_age=1000, ping_after=1e9, drain_within=50))
    pair.acceptor.tick(1049.0)
    pair.settle(1049.0)
    assert pair.dialler.mux.has_room
    pair.acceptor.tick(1050.0)
    pair.settle(1050.0)

    assert not pair.dialler.mux.has_room


def test_a_tunnel_that_is_closed_says_so() -> None:
    pair = Pair()
    pair.settle()
    pair.dialler.close()

    with pytest.raises(TunnelLostError) as caught:
        pair.settle()

    assert caught.value.end is End.PEER_CLOSED


def test_a_revoked_peer_is_told_by_an_alert() -> None:
    pair = Pair()
    pair.settle()
    pair.acceptor.revoke()

    with pytest.raises(TunnelLostError) as caught:
        pair.settle()

    assert caught.value.end is End.PROTOCOL
    assert "access_denied" in str(caught.value)


def test_a_peer_that_breaks_a_rule_of_streams_gets_goaway() -> None:
    pair = Pair()
    pair.settle()
    pair.dialler.connection.send(frame(Type.DATA, 0, 99, b"never opened"))
    feed(pair.acceptor.connection, pair.dialler.connection.data_to_send())

    with pytest.raises(TunnelLostError) as caught:
        pair.acceptor.receive(0.0)

    assert caught.value.end is End.PROTOCOL
    feed(pair.dialler.connection, pair.acceptor.connection.data_to_send())
    with pytest.raises(TunnelLostError):
        pair.dialler.receive(0.0)
    assert [code.name for code in pair.asking.goaways] == ["PROTOCOL"]


def test_a_record_that_does_not_open_ends_the_tunnel() -> None:
    pair = Pair()
    pair.settle()
    pair.dialler.mux.ping(b"12345678")
    data = bytearray(pair.dialler.output())
    data[-1] ^= 1
    feed(pair.acceptor.connection, data)

    with pytest.raises(TunnelLostError) as caught:
        pair.acceptor.receive(0.0)

    assert caught.value.end is End.PROTOCOL


def test_a_dialler_that_is_not_admitted_learns_it() -> None:
    mesh = Mesh()
    dialling, accepting = mesh.dial(static=static_key()), mesh.accept()
    feed(accepting.connection, dialling.connection.data_to_send())
    accepting.advance()
    feed(dialling.connection, accepting.connection.data_to_send())
    established = dialling.advance()
    assert isinstance(established, Established)
    session = Session(dialling.connection, established, Recorder(), opens=True, now=0.0)
    session.mux.send(session.mux.open({}), b"a prompt")
    feed(accepting.connection, session.output())
    with pytest.raises(RefusedError):
        accepting.advance()
    feed(session.connection, accepting.connection.data_to_send())

    with pytest.raises(TunnelLostError) as caught:
        session.receive(0.0)

    assert caught.value.end is End.NOT_ADMITTED
