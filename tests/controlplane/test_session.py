"""What a stream sends and when (control-api.md §1.3), without a socket."""

import pytest
from aegispb.v1 import discovery_pb2 as pb
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from controlplane.discovery.desired import MAX_FRAME, Desired, DesiredType, Frames
from controlplane.discovery.session import MAX_NAMES, VERDICT_WITHIN, Session, SidecarError, drain, welcome
from policies import wire
from policies.airlock.config import AirlockConfig
from policies.model import UnixNanos
from policies.snapshot import Upstream
from policies.spec import Document, Kind, RouteSpec
from sidecar.policy_state import PolicyState

UPSTREAM, AIRLOCK, ROUTE = (wire.TYPE_URLS[kind] for kind in (Kind.UPSTREAM, Kind.AIRLOCK, Kind.ROUTE))
EVERY = 10.0


def desired(revision: int, *documents: Document, since: float = 0.0, before: Desired | None = None) -> Desired:
    """A revision; types that are equal to those of `before` are the same objects, as Publication makes them."""
    types = {url: before.types[url] if before else DesiredType(0, {}) for url in wire.ORDER}
    for kind, url in wire.TYPE_URLS.items():
        fresh = DesiredType.of(revision, [wire.resource(each) for each in documents if each.kind is kind])
        old = before.types[url] if before else DesiredType(0, {})
        types[url] = old if old.resources == fresh.resources else fresh
    return Desired(revision, types, since)


def upstream(name: str = "model", host: str = "one", ttl: float | None = None) -> Document:
    return Document(name, Upstream(name, f"http://{host}.example"), ttl)


def airlock(hint: str = "", name: str = "hipaa", ttl: float | None = None) -> Document:
    return Document(name, AirlockConfig(hint=hint), ttl)


def route(name: str = "all", needs: str = "hipaa") -> Document:
    return Document(name, RouteSpec(f"/{name}", "model", needs))


EVERYTHING = (upstream(), airlock(), route())


def hello(*types: str, **versions: dict[str, str]) -> pb.Hello:
    listed = types or tuple(wire.KINDS)
    states = [pb.TypeState(type_url=url, versions=versions.get(wire.KINDS[url].name, {})) for url in listed]
    return pb.Hello(node=pb.Node(id="pod-1", build="test"), types=states)


class Peer:
    """A session with a real sidecar's state machine on its other end."""

    def __init__(self, wanted: Desired, *, state: PolicyState | None = None) -> None:
        self.state = state or PolicyState(bytes(32))
        versions = self.state.versions()
        message = pb.Hello(types=[pb.TypeState(type_url=url, versions=v) for url, v in versions.items()])
        self.session = Session(message, wanted, Frames(), EVERY, 0.0)
        self.sent: list[pb.Delta] = []
        self.heartbeats: list[pb.Heartbeat] = []

    def written(self, now: float = 0.0) -> list[pb.Delta]:
        """Every Delta that may be written without another message from the sidecar."""
        deltas = []
        while (frame := self.session.next_frame(now)) is not None:
            down = pb.Down.FromString(frame)
            if down.HasField("delta"):
                deltas.append(down.delta)
            else:
                self.heartbeats.append(down.heartbeat)
        self.sent += deltas
        return deltas

    def answer(self, delta: pb.Delta, now: float = 0.0) -> pb.Ack:
        ack = self.state.apply(delta, UnixNanos(round(now * 1e9)))
        self.session.receive(pb.Up(ack=ack), now)
        return ack

    def settle(self, now: float = 0.0) -> list[pb.Delta]:
        """Exchange messages until there are none left, and return the Deltas."""
        seen = []
        for _ in range(50):
            deltas = self.written(now)
            if not deltas:
                return seen
            seen += deltas
            for delta in deltas:
                self.answer(delta, now)
        raise AssertionError("a resend loop")

    def beat(self, now: float) -> None:
        self.session.receive(pb.Up(heartbeat=pb.Heartbeat(seq=1, applied=self.state.digests())), now)


def test_fresh_sidecar_gets_everything_in_the_order_of_references() -> None:
    peer = Peer(desired(1, *EVERYTHING))

    deltas = peer.written()

    assert [delta.type_url for delta in deltas] == [UPSTREAM, AIRLOCK, ROUTE]
    assert all(delta.last_of_type and delta.revision == 1 for delta in deltas)


def test_first_heartbeat_says_that_everything_wanted_at_hello_has_been_answered() -> None:
    peer = Peer(desired(1, *EVERYTHING))
    deltas = peer.written()
    assert peer.heartbeats == []

    for delta in deltas:
        peer.answer(delta)
    assert peer.written() == []

    (heartbeat,) = peer.heartbeats
    assert heartbeat.seq == 1
    assert heartbeat.revisions[ROUTE] == 1


def test_empty_store_is_in_sync_at_once() -> None:
    peer = Peer(Desired.nothing())

    assert peer.written() == []
    assert len(peer.heartbeats) == 1


def test_rule_2_sidecar_that_holds_everything_is_sent_nothing() -> None:
    first = Peer(desired(1, *EVERYTHING))
    first.settle()

    # Another replica: another process, the same content.
    second = Peer(desired(1, *EVERYTHING), state=first.state)

    assert second.settle() == []


def test_rule_3_at_most_one_delta_per_type_is_unanswered() -> None:
    peer = Peer(desired(1, airlock("0")))
    (first,) = peer.written()

    for revision in range(2, 2002):
        peer.session.want(desired(revision, airlock(str(revision))))
        assert peer.written() == []

    peer.answer(first)
    (second,) = peer.settle()
    assert second.revision == 2001
    assert peer.state.versions()[AIRLOCK] == {"hipaa": wire.resource(airlock("2001")).version}


def test_rule_4_later_types_wait_for_what_they_may_refer_to() -> None:
    peer = Peer(desired(1, upstream()))
    (first,) = peer.written()

    peer.session.want(desired(2, upstream(), upstream("second"), Document("all", RouteSpec("/", "second", "none"))))
    assert peer.written() == []

    peer.answer(first)
    assert [delta.type_url for delta in peer.written()] == [UPSTREAM, ROUTE]


def test_rule_4_removals_come_after_their_replacement_and_in_reverse_order() -> None:
    peer = Peer(first := desired(1, *EVERYTHING))
    peer.settle()

    replacement = (upstream("new"), airlock(name="new"), Document("all", RouteSpec("/", "new", "new")))
    peer.session.want(desired(2, *replacement, before=first))
    upserts = peer.written()
    assert [delta.type_url for delta in upserts] == [UPSTREAM, AIRLOCK, ROUTE]
    assert not any(delta.removed for delta in upserts)
    for delta in upserts:
        peer.answer(delta)

    assert [(delta.type_url, list(delta.removed)) for delta in peer.settle()] == [
        (AIRLOCK, ["hipaa"]),
        (UPSTREAM, ["model"]),
    ]
    snapshot = peer.state.snapshot("live")
    assert snapshot is not None
    assert not snapshot.blocked


def test_rule_6_refused_version_is_not_sent_again_until_its_content_changes() -> None:
    peer = Peer(first := desired(1, *EVERYTHING))
    deltas = peer.written()
    why = pb.Rejected(name="hipaa", version=deltas[1].upserts[0].version, why={"code": 3, "message": "no"})
    ack = pb.Ack(type_url=AIRLOCK, nonce=deltas[1].nonce, error_detail={"code": 3}, rejected=[why])
    peer.session.receive(pb.Up(ack=ack), 0.0)
    for delta in (deltas[0], deltas[2]):
        peer.answer(delta)

    assert peer.written() == []
    peer.session.want(second := desired(2, *EVERYTHING, upstream("other"), before=first))
    assert AIRLOCK not in [delta.type_url for delta in peer.settle()]

    peer.session.want(desired(3, upstream(), upstream("other"), airlock("new"), route(), before=second))
    assert AIRLOCK in [delta.type_url for delta in peer.settle()]


def test_rule_6_after_a_reconnect_only_the_changed_and_the_refused_are_sent() -> None:
    documents = (upstream(), airlock(), airlock(name="good"), route())
    peer = Peer(first := desired(1, *documents))
    refusing = PolicyState(b"short")  # cannot build any airlock
    peer.state = refusing
    peer.settle()

    again = Peer(desired(2, *documents[:3], upstream("changed"), before=first), state=refusing)

    sent = {(delta.type_url, resource.name) for delta in again.settle() for resource in delta.upserts}
    assert sent == {(UPSTREAM, "changed"), (AIRLOCK, "hipaa"), (AIRLOCK, "good")}


def test_route_refused_for_a_missing_policy_is_sent_again_once_the_policy_is_there() -> None:
    peer = Peer(first := desired(1, *EVERYTHING))
    deltas = peer.written()
    peer.answer(deltas[0])
    refused = pb.Rejected(name="hipaa", why={"code": code_pb2.INTERNAL})
    peer.session.receive(
        pb.Up(ack=pb.Ack(type_url=AIRLOCK, nonce=deltas[1].nonce, error_detail={"code": 13}, rejected=[refused])), 0.0
    )
    assert peer.answer(deltas[2]).rejected[0].why.code == code_pb2.FAILED_PRECONDITION
    assert peer.written() == []

    peer.session.want(desired(2, upstream(), airlock("fixed"), route(), before=first))

    assert [delta.type_url for delta in peer.settle()] == [AIRLOCK, ROUTE]
    assert peer.session.in_sync


def test_rule_8_whole_refusal_counts_for_every_resource_of_the_delta() -> None:
    peer = Peer(desired(1, airlock(), airlock(name="other")))
    (delta,) = peer.written()

    ack = pb.Ack(type_url=AIRLOCK, nonce=delta.nonce, error_detail={"code": 3, "message": "twice"})
    outcome = peer.session.receive(pb.Up(ack=ack), 0.5)

    assert outcome is not None
    assert {name for name, _ in outcome.refused} == {"hipaa", "other"}
    assert peer.written() == []


def test_refused_removal_is_not_asked_for_again_at_once() -> None:
    peer = Peer(first := desired(1, upstream(), upstream("old")))
    peer.settle()
    peer.session.want(desired(2, upstream(), before=first))
    (removal,) = peer.written()

    ack = pb.Ack(type_url=UPSTREAM, nonce=removal.nonce, error_detail={"code": 3})
    peer.session.receive(pb.Up(ack=ack), 0.0)

    assert peer.written() == []


def test_rule_9_times_to_live_are_renewed_without_a_body() -> None:
    peer = Peer(desired(1, airlock(ttl=30), airlock(name="for-ever")))
    peer.settle()

    assert peer.written(now=9.0) == []
    assert peer.session.wake_at() <= 10.0
    (renewal,) = peer.settle(now=10.0)

    assert [(resource.name, resource.HasField("body")) for resource in renewal.upserts] == [("hipaa", False)]
    assert peer.state.next_expiry() == 40 * 10**9


def test_rule_9_shortened_time_to_live_is_renewed_in_its_own_time() -> None:
    peer = Peer(first := desired(1, airlock(ttl=86_400)))
    peer.settle()

    peer.session.want(desired(2, airlock(ttl=30), before=first))
    peer.settle(1.0)

    assert peer.session.wake_at() <= 11.0


def test_rule_9_policy_that_expired_before_its_renewal_is_sent_whole() -> None:
    peer = Peer(desired(1, airlock(ttl=30)))
    peer.settle()
    peer.state.expire(UnixNanos(31 * 10**9))

    renewal, whole = peer.settle(now=31.0)

    assert not renewal.upserts[0].HasField("body")
    assert whole.upserts[0].HasField("body")
    assert peer.state.versions()[AIRLOCK]


def test_rule_15_sidecar_that_holds_something_else_is_sent_the_whole_type() -> None:
    peer = Peer(desired(1, *EVERYTHING))
    peer.settle()
    url = wire.TYPE_URLS[Kind.UPSTREAM]
    peer.state.apply(pb.Delta(type_url=url, upserts=[wire.resource(upstream("stray"))]), UnixNanos(0))

    peer.beat(10.0)
    (delta,) = peer.settle(10.0)

    assert delta.complete
    assert delta.type_url == UPSTREAM
    assert set(peer.state.versions()[UPSTREAM]) == {"model"}
    peer.beat(20.0)
    assert peer.settle(20.0) == []


def test_rule_15_agreeing_heartbeat_sends_nothing() -> None:
    peer = Peer(desired(1, *EVERYTHING))
    peer.settle()

    peer.beat(10.0)

    assert peer.settle(10.0) == []


def test_rule_15_digest_from_before_the_answer_to_a_delta_heals_nothing() -> None:
    peer = Peer(desired(1, *EVERYTHING))
    deltas = peer.written()

    peer.beat(1.0)
    for delta in deltas:
        peer.answer(delta)

    assert peer.settle(1.0) == []


def test_rule_15_refused_policy_with_an_expired_predecessor_is_no_endless_mismatch() -> None:
    state = PolicyState(bytes(32))
    peer = Peer(first := desired(1, airlock(ttl=30)), state=state)
    peer.settle()
    state.expire(UnixNanos(31 * 10**9))
    peer.session.want(desired(2, airlock("new", ttl=30), before=first))
    (delta,) = peer.written(1.0)
    version = delta.upserts[0].version
    rejected = pb.Rejected(name="hipaa", version=version, why={"code": 3}, in_force="")
    ack = pb.Ack(type_url=AIRLOCK, nonce=delta.nonce, error_detail={"code": 3}, rejected=[rejected])
    peer.session.receive(pb.Up(ack=ack), 1.0)

    peer.beat(5.0)

    assert peer.settle(5.0) == []


def test_rule_15_heartbeats_come_in_their_interval_and_three_missed_are_silence() -> None:
    peer = Peer(desired(1, *EVERYTHING))
    peer.settle()

    for now in (5.0, 10.0, 10.5, 20.0):
        peer.written(now)

    assert [heartbeat.seq for heartbeat in peer.heartbeats] == [1, 2, 3]
    assert not peer.session.overdue(30.0)
    assert peer.session.overdue(30.1) == "3 heartbeats were missed"
    peer.beat(30.0)
    assert not peer.session.overdue(60.0)


def test_sidecar_that_beats_but_gives_no_verdict_is_overdue() -> None:
    peer = Peer(desired(1, *EVERYTHING))
    deltas = peer.written(0.0)
    peer.answer(deltas[0])
    peer.beat(VERDICT_WITHIN)

    assert not peer.session.overdue(VERDICT_WITHIN)
    assert "no verdict" in peer.session.overdue(VERDICT_WITHIN + 1)


def test_what_a_sidecar_says_cannot_steer_the_terminal_of_an_operator() -> None:
    message = pb.Hello(node=pb.Node(id="pod\x1b[2J\n", build="\x07"), types=[pb.TypeState(type_url=AIRLOCK)])
    session = Session(message, desired(1, airlock()), Frames(), EVERY, 0.0)
    delta = pb.Down.FromString(session.next_frame(0.0) or b"").delta

    ack = pb.Ack(type_url=AIRLOCK, nonce=delta.nonce, error_detail={"code": 3, "message": "\x1b]0;x\x07"})
    session.receive(pb.Up(ack=ack), 0.0)

    assert session.node_id.isprintable()
    assert session.build.isprintable()
    assert session.types[AIRLOCK].refused["hipaa"].reason.isprintable()


def test_heartbeats_go_on_while_a_delta_is_unanswered() -> None:
    peer = Peer(first := desired(1, *EVERYTHING))
    peer.settle()
    peer.session.want(desired(2, upstream(), airlock("x"), route(), before=first))
    peer.written(1.0)
    peer.session.want(desired(3, upstream(), airlock("y"), route(), before=first))

    peer.written(10.0)

    assert len(peer.heartbeats) == 2


def test_heartbeat_tells_the_revision_in_force_even_if_nothing_had_to_be_sent() -> None:
    first = Peer(desired(1, upstream()))
    first.settle()
    again = Peer(desired(5, upstream()), state=first.state)

    assert again.settle() == []

    assert again.heartbeats[0].in_force == {UPSTREAM: 5}


def test_refused_revision_is_not_in_force() -> None:
    peer = Peer(desired(1, airlock()), state=PolicyState(b"short"))

    peer.settle()

    assert AIRLOCK not in peer.heartbeats[0].in_force
    assert peer.heartbeats[0].revisions[AIRLOCK] == 1


def test_only_subscribed_types_are_sent() -> None:
    session = Session(hello(UPSTREAM), desired(1, *EVERYTHING), Frames(), EVERY, 0.0)

    frames = [session.next_frame(0.0) for _ in range(2)]

    assert pb.Down.FromString(frames[0] or b"").delta.type_url == UPSTREAM
    assert frames[1] is None


def test_unknown_types_of_a_newer_sidecar_are_told_and_ignored() -> None:
    message = pb.Hello(types=[pb.TypeState(type_url="type.googleapis.com/aegispb.v1.Future")])

    session = Session(message, Desired.nothing(), Frames(), EVERY, 0.0)

    assert session.unknown_types == ("type.googleapis.com/aegispb.v1.Future",)
    assert session.types == {}


def test_large_state_is_sent_in_several_deltas_and_only_the_last_says_so() -> None:
    big = "x" * (MAX_FRAME // 6)
    peer = Peer(desired(1, *(airlock(big, name=f"a{n}") for n in range(10))))

    deltas = peer.settle()

    assert [delta.last_of_type for delta in deltas] == [False, True]
    assert all(delta.ByteSize() <= MAX_FRAME + 1000 for delta in deltas)
    assert len(peer.state.versions()[AIRLOCK]) == 10


def test_answer_to_nothing_changes_nothing() -> None:
    peer = Peer(desired(1, *EVERYTHING))
    peer.settle()

    for ack in (pb.Ack(type_url=AIRLOCK, nonce="x"), pb.Ack(type_url="x"), pb.Ack()):
        assert peer.session.receive(pb.Up(ack=ack), 0.0) is None
    assert peer.session.in_sync


@pytest.mark.parametrize("up", [pb.Up(), pb.Up(hello=pb.Hello())])
def test_second_hello_or_nothing_at_all_breaks_the_protocol(up: pb.Up) -> None:
    with pytest.raises(SidecarError):
        Peer(Desired.nothing()).session.receive(up, 0.0)


@pytest.mark.parametrize(
    "versions",
    [
        {f"n{n}": "v" for n in range(MAX_NAMES + 1)},
        {"n" * 2101: "v"},
        {"n": "v" * 2101},
        {"\x1b[2Jn": "v"},
        {"n": "\x1b[2Jv"},
    ],
    ids=["too many", "a long name", "a long version", "a name for a terminal", "a version for a terminal"],
)
def test_what_hello_claims_is_bounded(versions: dict[str, str]) -> None:
    with pytest.raises(SidecarError):
        Session(hello(AIRLOCK, AIRLOCK=versions), Desired.nothing(), Frames(), EVERY, 0.0)


def test_types_that_hello_names_are_bounded() -> None:
    types = [pb.TypeState(type_url=f"t{n}") for n in range(MAX_NAMES + 1)]

    with pytest.raises(SidecarError):
        Session(pb.Hello(types=types), Desired.nothing(), Frames(), EVERY, 0.0)


@pytest.mark.parametrize("version", ["v" * 2101, "\x1b[2Jv"], ids=["long", "for a terminal"])
def test_what_an_ack_claims_to_be_in_force_is_bounded(version: str) -> None:
    session = Session(hello(AIRLOCK), desired(1, airlock()), Frames(), EVERY, 0.0)
    delta = pb.Down.FromString(session.next_frame(0.0) or b"").delta
    refused = pb.Rejected(name="hipaa", in_force=version)

    with pytest.raises(SidecarError):
        session.receive(
            pb.Up(ack=pb.Ack(type_url=AIRLOCK, nonce=delta.nonce, error_detail={"code": 3}, rejected=[refused])), 0.0
        )


def test_time_of_a_push_counts_from_the_change_not_from_its_sending() -> None:
    peer = Peer(first := desired(1, airlock()))
    peer.settle(0.0)
    peer.session.want(desired(2, airlock("x"), since=5.0, before=first))
    (delta,) = peer.written(7.0)

    outcome = peer.session.receive(pb.Up(ack=peer.state.apply(delta, UnixNanos(0))), 8.0)

    assert outcome is not None
    assert outcome.seconds == 3.0


def test_equal_pushes_share_their_bytes() -> None:
    frames = Frames()
    wanted = desired(1, *EVERYTHING)
    sessions = [Session(hello(), wanted, frames, EVERY, 0.0) for _ in range(2)]

    one, other = (session.next_frame(0.0) for session in sessions)

    assert one is other


def test_welcome_and_drain_carry_their_durations() -> None:
    assert pb.Down.FromString(welcome("x", 2.5)).welcome.heartbeat_every.ToMilliseconds() == 2500
    assert pb.Down.FromString(drain(10.0)).drain.reconnect_within.seconds == 10


NAMES = st.sampled_from(["a", "b", "c"])


class Convergence(RuleBasedStateMachine):
    """Whatever happens in whatever order, both ends agree in the end, and refusals cause no loop."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Desired.nothing()
        self.documents: dict[tuple[Kind, str], Document] = {}
        self.peer = Peer(self.wanted)
        self.unanswered: list[pb.Delta] = []

    @rule(name=NAMES, text=st.sampled_from(["x", "y"]))
    def push_airlock(self, name: str, text: str) -> None:
        self._push(airlock(text, name=name))

    @rule(name=NAMES)
    def push_upstream(self, name: str) -> None:
        self._push(upstream(name))

    @rule(name=NAMES, needs=NAMES)
    def push_route(self, name: str, needs: str) -> None:
        self._push(Document(name, RouteSpec("/", needs, needs)))

    @rule(name=NAMES, kind=st.sampled_from([Kind.UPSTREAM, Kind.AIRLOCK, Kind.ROUTE]))
    def remove(self, name: str, kind: Kind) -> None:
        self.documents.pop((kind, name), None)
        self._publish()

    @rule()
    def write(self) -> None:
        self.unanswered += self.peer.written()
        types = [delta.type_url for delta in self.unanswered]
        assert len(types) == len(set(types)), "two Deltas of one type are unanswered"

    @precondition(lambda self: self.unanswered)
    @rule()
    def answer_oldest(self) -> None:
        self.peer.answer(self.unanswered.pop(0))

    @rule()
    def heartbeat(self) -> None:
        self.peer.beat(0.0)

    @rule()
    def reconnect(self) -> None:
        self.peer = Peer(self.wanted, state=self.peer.state)
        self.unanswered = []

    @rule()
    def converge(self) -> None:
        for delta in self.unanswered:
            self.peer.answer(delta)
        self.unanswered = []
        self.peer.settle()
        assert self.peer.session.in_sync
        held = self.peer.state.versions()
        for url, each in self.wanted.types.items():
            refused = self.peer.session.types[url].refused
            expected = {name: r.version for name, r in each.resources.items() if name not in refused}
            assert {name: version for name, version in held[url].items() if name not in refused} == expected

    def teardown(self) -> None:
        self.converge()

    def _push(self, document: Document) -> None:
        self.documents[document.key] = document
        self._publish()

    def _publish(self) -> None:
        self.wanted = desired(self.wanted.revision + 1, *self.documents.values(), before=self.wanted)
        self.peer.session.want(self.wanted)


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_garbage_messages_are_ignored_or_break_the_protocol(messages: list[bytes]) -> None:
    peer = Peer(desired(1, *EVERYTHING))
    peer.written()
    for message in messages:
        try:
            peer.session.receive(pb.Up.FromString(message), 0.0)
        except (SidecarError, DecodeError):  # gRPC ends the stream when it cannot parse
            return
