"""Trust policies as files (c2sp.org/tlog-policy): which logs are trusted, and how many witnesses must have cosigned.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <member>...
    quorum <name>|none

Byzantine agreement of 2f+1 out of 3f+1 nodes is `group forest 3 a b c d` and `quorum forest`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import verifier
from ledger.errors import MalformedError, QuorumError, SignatureError
from ledger.keys import SignatureType, VerifierKey, parse_vkey
from ledger.note import open_note

_MAX_POLICY: Final = 1 << 20
_MAX_OF_A_KIND: Final = 256
"""Logs, witnesses, groups. The specification asks for 32 at least."""
_NONE: Final = "none"
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_LOG_TYPES: Final = (SignatureType.ED25519, SignatureType.MLDSA44_COSIGNATURE)
_WITNESS_TYPES: Final = (SignatureType.ED25519_COSIGNATURE, SignatureType.MLDSA44_COSIGNATURE)


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A log whose checkpoints are accepted."""

    key: VerifierKey
    """Its name is the log's origin."""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A cosigner that counts towards the quorum."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Counts as one member when at least `threshold` of its members cosigned."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Whose word is enough. Immutable."""

    logs: tuple[TrustedLog, ...]
    witnesses: Mapping[str, Witness] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str = _NONE
    """Name of a witness or group, or `none`."""

    def verify(self, checkpoint_note: bytes) -> Checkpoint:
        """The checkpoint, if a trusted log signed it under its own origin and the quorum cosigned it.

        Raises MalformedError, SignatureError or QuorumError.
        """
        log_verifiers = [verifier(log.key) for log in self.logs]
        opened = open_note(checkpoint_note, log_verifiers)
        checkpoint = parse_checkpoint(opened.note.text)
        # tlog-policy: the key name of a log is its origin. Another log's key does not vouch for this one.
        if all(line.name != checkpoint.origin for line in opened.verified):
            raise SignatureError(f"the checkpoint is of {checkpoint.origin!r}, but another log signed it")
        if self.quorum == _NONE:
            return checkpoint
        cosigned = self._cosigned(checkpoint_note)
        if not self._reached(self.quorum, cosigned):
            names = ", ".join(ascii(name) for name in sorted(cosigned)) or "none"
            raise QuorumError(f"the quorum {self.quorum!a} is not reached; witnesses that cosigned: {names}")
        return checkpoint

    def _cosigned(self, checkpoint_note: bytes) -> set[str]:
        verifiers = {name: verifier(witness.key) for name, witness in self.witnesses.items()}
        try:
            opened = open_note(checkpoint_note, verifiers.values())
        except SignatureError as error:
            raise QuorumError(f"the quorum {self.quorum!a} is not reached: {error}") from None
        lines = {(line.name, line.key_id) for line in opened.verified}
        return {name for name, v in verifiers.items() if (v.key.name, v.key.id) in lines}

    def _reached(self, name: str, cosigned: set[str]) -> bool:
        # Groups name only what stands above them, so this ends; each name is a member once, so it is linear.
        group = self.groups.get(name)
        if group is None:
            return name in cosigned
        return sum(self._reached(member, cosigned) for member in group.members) >= group.threshold


def single_log_policy(key: VerifierKey) -> TrustPolicy:
    """Trust this log, ask for no witness."""
    return TrustPolicy((TrustedLog(key),))


def parse_policy(data: bytes) -> TrustPolicy:
    """The policy that a file holds. Raises MalformedError, which names the line."""
    if len(data) > _MAX_POLICY:
        raise MalformedError(f"a policy has at most {_MAX_POLICY} bytes, this one has {len(data)}")
    if _FORBIDDEN.search(data):
        raise MalformedError("the only control characters of a policy are tab and LF")
    reader = _PolicyReader()
    # Names are opaque octets: the error handler keeps what is not UTF-8 apart, byte for byte.
    for number, line in enumerate(data.decode(errors="surrogateescape").split("\n"), 1):
        items = re.split(r"[ \t]+", line.strip(" \t"))
        if items[0] == "" or items[0].startswith("#"):
            continue
        try:
            reader.read(items)
        except MalformedError as error:
            raise MalformedError(f"line {number} of the policy: {error}") from None
    return reader.policy()


class _PolicyReader:
    """The lines read so far."""

    def __init__(self) -> None:
        self._logs: list[TrustedLog] = []
        self._witnesses: dict[str, Witness] = {}
        self._groups: dict[str, Group] = {}
        self._used: set[str] = set()
        self._quorum: str | None = None

    def read(self, items: list[str]) -> None:
        keywords: dict[str, Callable[[list[str]], None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum_line,
        }
        keyword = keywords.get(items[0])
        if keyword is None:
            raise MalformedError("a line begins with log, witness, group, quorum or #")
        keyword(items[1:])

    def policy(self) -> TrustPolicy:
        if self._quorum is None:
            raise MalformedError("a policy has exactly one quorum line, this one has none")
        return TrustPolicy(tuple(self._logs), self._witnesses, self._groups, self._quorum)

    def _log(self, items: list[str]) -> None:
        if not 1 <= len(items) <= 2:
            raise MalformedError("expected: log <vkey> [<url>]")
        key = _key(items[0], _LOG_TYPES, "a log")
        if any(log.key.public_key == key.public_key for log in self._logs):
            raise MalformedError("another log line has the same public key")
        self._check_room(len(self._logs))
        self._logs.append(TrustedLog(key, *items[1:]))

    def _witness(self, items: list[str]) -> None:
        if not 2 <= len(items) <= 3:
            raise MalformedError("expected: witness <name> <vkey> [<url>]")
        self._check_new(items[0])
        key = _key(items[1], _WITNESS_TYPES, "a witness")
        if any(witness.key.public_key == key.public_key for witness in self._witnesses.values()):
            raise MalformedError("another witness line has the same public key")
        self._check_room(len(self._witnesses))
        self._witnesses[items[0]] = Witness(key, *items[2:])

    def _group(self, items: list[str]) -> None:
        if len(items) < 3:
            raise MalformedError("expected: group <name> all|any|<k> <member>...")
        name, rule, *members = items
        self._check_new(name)
        self._check_room(len(self._groups))
        for member in members:
            self._check_defined(member)
            # One way to count for each witness: a second membership would let it count twice.
            if member in self._used:
                raise MalformedError("a name is a member of one group only, and once")
            self._used.add(member)
        self._groups[name] = Group(_threshold(rule, len(members)), tuple(members))

    def _quorum_line(self, items: list[str]) -> None:
        if self._quorum is not None or len(items) != 1:
            raise MalformedError("expected, once: quorum <name>|none")
        if items[0] != _NONE:
            self._check_defined(items[0])
        self._quorum = items[0]

    def _check_new(self, name: str) -> None:
        if name == _NONE or name in self._witnesses or name in self._groups:
            raise MalformedError("this name is taken; witnesses and groups share one namespace, `none` is reserved")

    def _check_defined(self, name: str) -> None:
        if name not in self._witnesses and name not in self._groups:
            raise MalformedError("only names that are defined on earlier lines can be used")

    def _check_room(self, count: int) -> None:
        if count >= _MAX_OF_A_KIND:
            raise MalformedError(f"at most {_MAX_OF_A_KIND} logs, witnesses and groups each are supported")


def _key(text: str, types: tuple[SignatureType, ...], whose: str) -> VerifierKey:
    key = parse_vkey(text)
    if key.type not in types:
        allowed = " or ".join(f"{t:#04x}" for t in types)
        raise MalformedError(f"{whose} needs a key of type {allowed}, this one has {key.type:#04x}")
    return key


def _threshold(rule: str, members: int) -> int:
    if rule in {"all", "any"}:
        return members if rule == "all" else 1
    if not re.fullmatch(r"[1-9][0-9]{0,3}", rule, re.ASCII) or int(rule) > members:
        raise MalformedError("a group counts all, any, or a number from 1 to that of its members")
    return int(rule)
