"""One sidecar's stream as a state machine: what it holds of each type, and what to send it next. No I/O, no clock.

    Hello ──► Welcome ──► Deltas ──► first Heartbeat ──► Deltas as things change, Heartbeats between them

Per type (see `HeldType`):

    in sync ──change──► dirty ──send──► one Delta outstanding ──Ack──► in sync, or dirty again

Nothing is queued. A change only replaces what is wanted; when the Ack of the outstanding Delta arrives, what is held
is compared with what is wanted *now*. Memory per stream is what the sidecar holds, however fast policies change.
(control-api.md §1.3 rules 1, 3, 4, 6, 9, 14 and 15.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from aegispb.v1 import discovery_pb2 as pb
from google.rpc import code_pb2

from controlplane.discovery.desired import Desired, DesiredType, Frame, Frames
from policies import wire
from policies.spec import Kind

MISSED_HEARTBEATS: Final = 3
VERDICT_WITHIN: Final = 300.0
"""Seconds that a sidecar may build policies."""
MAX_NAMES: Final = 65_536
"""Types and names in all of a Hello: more is not one of our sidecars."""
MAX_NAME: Final = 2100
"""Characters of a name: a SPIFFE id is up to 2,048."""
_MAX_REASON: Final = 1000
"""Characters kept of a reason."""
_DEPENDENTS: Final = (wire.TYPE_URLS[Kind.UPSTREAM], wire.TYPE_URLS[Kind.ROUTE])
"""Types whose resources refer to others: what was refused for a missing reference is sent again once others came."""


class SidecarError(Exception):
    """The sidecar broke the protocol; the stream must end with INVALID_ARGUMENT."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version was refused."""

    version: str
    code: int
    """google.rpc.Code."""
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an Ack said, for metrics and the log."""

    type_url: str
    seconds: float
    """From the change (or the sidecar's Hello, if that was later) to the Ack."""
    refused: tuple[tuple[str, Refusal], ...]


@dataclass(slots=True)
class _Outstanding:
    frame: Frame
    wanted_at: float
    sent_at: float


@dataclass(slots=True)
class HeldType:
    """What one sidecar holds of one type, as far as we know. Owned by its Session."""

    applied: dict[str, str]
    """name -> version in force."""
    refused: dict[str, Refusal] = field(default_factory=dict)
    """name -> refusal of the version that was sent last. That version counts as held: it is not sent again."""
    outstanding: _Outstanding | None = None
    settled: DesiredType | None = None
    """What `applied` and `refused` were last seen to agree with."""
    revision: int = 0
    """The latest revision that was wholly in force; 0: not known."""
    resend: bool = False
    """The sidecar holds something else than we believe: send everything (rule 15)."""
    renew_at: float | None = None
    """When times to live have to be renewed."""

    def missing(self, desired: DesiredType) -> list[str]:
        """Names to send, what is on its way left out."""
        if self.resend:
            return list(desired.resources)
        return [name for name, resource in desired.resources.items() if not self._holds(name, resource.version)]

    def surplus(self, desired: DesiredType) -> list[str]:
        """Names to remove."""
        return [name for name in self.applied.keys() | self.refused.keys() if name not in desired.resources]

    def _holds(self, name: str, version: str) -> bool:
        if self.outstanding is not None and name in self.outstanding.frame.sent:
            return self.outstanding.frame.sent[name] == version
        refusal = self.refused.get(name)
        return self.applied.get(name) == version or (refusal is not None and refusal.version == version)


class Session:
    """Feed it what arrives with `receive` and what is wanted with `want`; write what `next_frame` returns."""

    def __init__(self, hello: pb.Hello, desired: Desired, frames: Frames, heartbeat_every: float, now: float) -> None:
        """Raises SidecarError. `now` and all times: seconds on one monotonic clock."""
        listed = {each.type_url: dict(each.versions) for each in hello.types}
        _require_bounded(listed)
        self.node_id = printable(hello.node.id, 253)
        self.build = printable(hello.node.build, 100)
        self.types = {url: HeldType(listed[url]) for url in desired.types if url in listed}
        """Subscribed types that we know, in the order of distribution."""
        self.unknown_types = tuple(url[:200] for url in listed if url not in desired.types)
        self.desired = desired
        self.last_seen = now
        self.since = now
        self._frames = frames
        self._every = heartbeat_every
        self._heartbeat_at: float | None = None
        """When the next heartbeat is due; None: not before everything that was wanted at Hello has been answered."""
        self._seq = 0

    def want(self, desired: Desired) -> None:
        """There is a new revision."""
        self.desired = desired

    def receive(self, up: pb.Up, now: float) -> Outcome | None:
        """Take a message in. Raises SidecarError."""
        self.last_seen = now
        match up.WhichOneof("msg"):
            case "ack":
                return self._ack(up.ack, now)
            case "heartbeat":
                self._compare(up.heartbeat)
                return None
            case _:
                raise SidecarError("expected Ack or Heartbeat")

    def next_frame(self, now: float) -> bytes | None:
        """The next message to write, serialised; None: nothing for now. Call until None after everything else."""
        waiting = False
        for url, held in self.types.items():
            desired = self.desired.types[url]
            if held.settled is desired and not held.resend:
                waiting |= held.outstanding is not None
                continue
            missing = held.missing(desired)
            if held.outstanding is not None:
                if missing:
                    # Rule 4: what is behind in the order may refer to what cannot be sent yet.
                    return self._heartbeat(now)
                waiting = True
            elif missing or held.resend:
                return self._send(held, self._frames.upserts(url, desired, missing, complete=held.resend), now)
        if waiting:
            return self._heartbeat(now)
        return self._removal(now) or self._renewal(now) or self._heartbeat(now)

    @property
    def in_sync(self) -> bool:
        """Whether everything that is wanted has been sent and answered."""
        return all(held.settled is self.desired.types[url] for url, held in self.types.items())

    @property
    def outstanding(self) -> int:
        """Deltas that have not been answered yet."""
        return sum(held.outstanding is not None for held in self.types.values())

    def overdue(self, now: float) -> str:
        """What the sidecar has failed to say in time; empty: nothing."""
        if now - self.last_seen > MISSED_HEARTBEATS * self._every:
            return f"{MISSED_HEARTBEATS} heartbeats were missed"
        sent = [held.outstanding.sent_at for held in self.types.values() if held.outstanding is not None]
        # Without a verdict nothing else of that type can be sent, nor any time to live renewed.
        return f"no verdict within {VERDICT_WITHIN:g} s" if sent and now - min(sent) > VERDICT_WITHIN else ""

    def wake_at(self) -> float:
        """When `next_frame` has something to say even if nothing happens."""
        times = [held.renew_at for held in self.types.values() if held.renew_at is not None]
        return min([*times, self._heartbeat_at if self._heartbeat_at is not None else float("inf")])

    def _send(self, held: HeldType, frame: Frame, now: float) -> bytes:
        held.outstanding = _Outstanding(frame, max(self.desired.since, self.since), now)
        held.resend = False
        return frame.encoded

    def _removal(self, now: float) -> bytes | None:
        """Make before break: removals come last and in reverse order, so that nothing is needed any more."""
        for url, held in reversed(self.types.items()):
            desired = self.desired.types[url]
            if held.settled is desired:
                continue
            surplus = held.surplus(desired)
            if surplus:
                return self._send(held, self._frames.removals(url, desired, sorted(surplus)), now)
            held.settled = desired
            held.revision = held.revision if held.refused else desired.revision
            due = None if desired.ttl is None else now + desired.ttl / 3
            held.renew_at = min(due, held.renew_at or due) if due is not None else None
        return None

    def _renewal(self, now: float) -> bytes | None:
        for url, held in self.types.items():
            if held.renew_at is None or held.renew_at > now:
                continue
            desired = self.desired.types[url]
            held.renew_at = None if desired.ttl is None else now + desired.ttl / 3
            names = [
                name
                for name, resource in desired.resources.items()
                if resource.HasField("ttl") and held.applied.get(name) == resource.version
            ]
            if names:
                return self._send(held, self._frames.renewals(url, desired, names), now)
        return None

    def _heartbeat(self, now: float) -> bytes | None:
        if self._heartbeat_at is None and not self.in_sync:
            return None
        if self._heartbeat_at is not None and self._heartbeat_at > now:
            return None
        self._heartbeat_at = now + self._every
        self._seq += 1
        in_force = {url: held.revision for url, held in self.types.items() if held.revision}
        heartbeat = pb.Heartbeat(seq=self._seq, revisions=self.desired.revisions(), in_force=in_force)
        return pb.Down(heartbeat=heartbeat).SerializeToString()

    def _ack(self, ack: pb.Ack, now: float) -> Outcome | None:
        held = self.types.get(ack.type_url)
        if held is None or held.outstanding is None or held.outstanding.frame.nonce != ack.nonce:
            return None  # the nonce only correlates: an answer to nothing changes nothing
        frame, wanted_at = held.outstanding.frame, held.outstanding.wanted_at
        held.outstanding = None
        refused = dict(_refusals(ack, frame))
        if frame.complete:
            held.applied = {name: version for name, version in held.applied.items() if name in frame.sent}
            held.refused = {}
        for name, version in frame.sent.items():
            if name not in refused:
                held.applied[name] = version
                held.refused.pop(name, None)
        for rejected in ack.rejected:
            # What stays in force is for the sidecar to say: a predecessor may have expired there meanwhile.
            if rejected.name in refused and rejected.in_force:
                _require_text(rejected.in_force)
                held.applied[rejected.name] = rejected.in_force
            elif rejected.name in refused:
                held.applied.pop(rejected.name, None)
        for name in frame.removed:
            # Even if that was refused: asking again at once would be a loop, and rule 15 heals what we got wrong.
            held.applied.pop(name, None)
            held.refused.pop(name, None)
        if frame.renewal:
            if refused:
                held.settled = None  # it has lost what was to be renewed: send it whole
            return None
        held.refused.update(refused)
        if len(refused) < len(frame.sent):
            self._retry_dependents(ack.type_url)
        return Outcome(ack.type_url, now - wanted_at, tuple(refused.items()))

    def _retry_dependents(self, changed: str) -> None:
        """What was refused because something it refers to was missing may be accepted now. No loop: only something
        newly applied of another type leads here."""
        for url in _DEPENDENTS:
            held = self.types.get(url)
            if held is None or url == changed:
                continue
            waiting = [name for name, each in held.refused.items() if each.code == code_pb2.FAILED_PRECONDITION]
            for name in waiting:
                del held.refused[name]
                held.settled = None

    def _compare(self, heartbeat: pb.Heartbeat) -> None:
        """Rule 15: heal a sidecar that is connected but stale."""
        for url, digest in heartbeat.applied.items():
            held = self.types.get(url)
            if held is None or held.outstanding is not None:
                continue
            if digest != wire.state_digest(held.applied):
                held.resend = True
                held.settled = None


def welcome(server_id: str, heartbeat_every: float) -> bytes:
    """The answer to Hello, serialised."""
    message = pb.Welcome(server_id=server_id)
    message.heartbeat_every.FromNanoseconds(round(heartbeat_every * 1e9))
    return pb.Down(welcome=message).SerializeToString()


def drain(reconnect_within: float) -> bytes:
    """Rule 14, serialised."""
    message = pb.Drain()
    message.reconnect_within.FromNanoseconds(round(reconnect_within * 1e9))
    return pb.Down(drain=message).SerializeToString()


def printable(text: str, limit: int) -> str:
    """At most `limit` characters that a terminal only shows: a sidecar must not be able to steer an operator's."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:limit])


def _refusals(ack: pb.Ack, frame: Frame) -> Iterator[tuple[str, Refusal]]:
    """(name, refusal) for what of `frame` was refused. Names that were not sent are ignored."""
    if not ack.HasField("error_detail"):
        return
    if not ack.rejected:
        whole = ack.error_detail
        for name, version in frame.sent.items():
            yield name, Refusal(version, whole.code, printable(whole.message, _MAX_REASON))
    for rejected in ack.rejected:
        if rejected.name in frame.sent:
            why = rejected.why
            yield rejected.name, Refusal(frame.sent[rejected.name], why.code, printable(why.message, _MAX_REASON))


def _require_bounded(listed: Mapping[str, Mapping[str, str]]) -> None:
    """What Hello claims stays in memory as long as the stream lives, and is shown to operators."""
    if len(listed) + sum(map(len, listed.values())) > MAX_NAMES:
        raise SidecarError(f"Hello names more than {MAX_NAMES} types and resources")
    for versions in listed.values():
        for pair in versions.items():
            _require_text(*pair)


def _require_text(*texts: str) -> None:
    """Names and versions are compared with ours, so that nothing of them can be left out as `printable` would."""
    if not all(len(text) <= MAX_NAME and text.isprintable() for text in texts):
        raise SidecarError(f"a name or version has more than {MAX_NAME} characters, or some that are not printed")
