"""Two implementations of XK and XKpsk3 are each other's oracle; whatever a peer sends, only NoiseError comes out."""

from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.noise import own, package
from transport.noise.errors import NoiseError
from transport.noise.suite import Aead, Handshake, Hash, Pattern, StaticKey, Suite

IMPLEMENTATIONS = [own, package]
BOTH = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=["own", "package"])
PRIVATE = st.binary(min_size=32, max_size=32).map(X25519PrivateKey.from_private_bytes)
SUITES = st.builds(Suite, st.sampled_from(Pattern), st.sampled_from(Aead), st.sampled_from(Hash))
ALICE, BOB = (StaticKey.of(X25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2))
PSK = bytes(range(32))


def pair(
    asking: ModuleType = own,
    asked: ModuleType = own,
    suite: Suite | None = None,
    prologue: bytes = b"tunnel",
    **keys: Any,
) -> tuple[Handshake, Handshake]:
    suite = suite or Suite()
    return (
        asking.initiator(suite, prologue, ALICE, BOB.public, ephemeral=keys.get("e1")),
        asked.responder(suite, prologue, BOB, ephemeral=keys.get("e2")),
    )


def run(sides: tuple[Handshake, Handshake], payloads: tuple[bytes, bytes, bytes], psk: bytes | None) -> list[bytes]:
    """The three messages."""
    sent = []
    for turn, payload in enumerate(payloads):
        if turn == 2 and psk is not None:
            for side in sides:
                side.set_psk(psk)
        message = sides[turn % 2].write_message(payload)
        assert sides[(turn + 1) % 2].read_message(message) == payload
        sent.append(message)
    return sent


@settings(max_examples=60)
@given(
    suite=SUITES,
    ephemerals=st.tuples(PRIVATE, PRIVATE),
    prologue=st.binary(max_size=200),
    payloads=st.tuples(*[st.binary(max_size=300)] * 3),
    psk=st.binary(min_size=32, max_size=32),
)
def test_both_implementations_say_the_same_bytes_and_keys(
    suite: Suite,
    ephemerals: tuple[X25519PrivateKey, X25519PrivateKey],
    prologue: bytes,
    payloads: tuple[bytes, bytes, bytes],
    psk: bytes,
) -> None:
    late = psk if suite.pattern is Pattern.XKPSK3 else None
    seen = []

    for asking in IMPLEMENTATIONS:
        for asked in IMPLEMENTATIONS:
            sides = pair(asking, asked, suite, prologue, e1=ephemerals[0], e2=ephemerals[1])
            messages = run(sides, payloads, late)
            assert sides[1].remote_static == ALICE.public
            seen.append((messages, *(tuple(side.split()) for side in sides)))

    assert all(one == seen[0] for one in seen[1:])


@BOTH
def test_fresh_ephemerals_make_every_handshake_another(implementation: ModuleType) -> None:
    first, second = ([*run(pair(implementation, implementation), (b"", b"", b""), PSK)] for _ in range(2))

    assert all(one != other for one, other in zip(first, second, strict=True))


@BOTH
@pytest.mark.parametrize("turn", [0, 1, 2])
@settings(max_examples=25)
@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_flipped_bit_ends_the_handshake(implementation: ModuleType, turn: int, position: int, bit: int) -> None:
    sides = pair(implementation, implementation)
    for side in sides:
        side.set_psk(PSK)
    for before in range(turn):
        sides[(before + 1) % 2].read_message(sides[before % 2].write_message(b""))
    message = bytearray(sides[turn % 2].write_message(b"payload"))
    position %= len(message)
    if position == 31:
        bit %= 7  # the highest bit of an X25519 point is ignored (RFC 7748 section 5), but it is hashed: see below
    message[position] ^= 1 << bit
    reader = sides[(turn + 1) % 2]

    with pytest.raises(NoiseError):
        reader.read_message(bytes(message))
    with pytest.raises(NoiseError):
        reader.read_message(bytes(message))


@BOTH
def test_the_ignored_bit_of_a_point_is_still_authenticated(implementation: ModuleType) -> None:
    asking, asked = pair(implementation, implementation)
    message = bytearray(asking.write_message())
    message[31] ^= 0x80

    with pytest.raises(NoiseError):
        asked.read_message(bytes(message))


@BOTH
@settings(max_examples=50)
@given(garbage=st.binary(max_size=300))
def test_garbage_gives_only_our_error(implementation: ModuleType, garbage: bytes) -> None:
    asking, asked = pair(implementation, implementation)
    with pytest.raises(NoiseError):
        asked.read_message(garbage)

    asking.write_message()
    with pytest.raises(NoiseError):
        asking.read_message(garbage)


@BOTH
@pytest.mark.parametrize("difference", ["prologue", "psk", "responder"])
def test_sides_that_disagree_never_finish(implementation: ModuleType, difference: str) -> None:
    suite, eve = Suite(), StaticKey.of(X25519PrivateKey.generate())
    asking = implementation.initiator(suite, b"one", ALICE, BOB.public)
    asked = implementation.responder(
        suite, b"two" if difference == "prologue" else b"one", eve if difference == "responder" else BOB
    )
    asking.set_psk(PSK)
    asked.set_psk(bytes(32) if difference == "psk" else PSK)

    with pytest.raises(NoiseError):
        run((asking, asked), (b"", b"", b""), None)
    with pytest.raises(ValueError, match="not finished"):
        asked.split()


@BOTH
@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little")])
def test_points_of_small_order_are_refused(implementation: ModuleType, point: bytes) -> None:
    _, asked = pair(implementation, implementation)

    with pytest.raises(NoiseError):
        asked.read_message(point + bytes(16))


@BOTH
def test_messages_beyond_65535_bytes_are_refused(implementation: ModuleType) -> None:
    asking, asked = pair(implementation, implementation)

    with pytest.raises(ValueError, match="65535"):
        asking.write_message(bytes(65535))
    with pytest.raises(NoiseError):
        asked.read_message(bytes(65536))


@BOTH
def test_misuse_is_a_value_error(implementation: ModuleType) -> None:
    asking, asked = pair(implementation, implementation)
    with pytest.raises(ValueError, match="turn"):
        asking.read_message(b"")
    with pytest.raises(ValueError, match="turn"):
        asked.write_message()
    with pytest.raises(ValueError, match="32 bytes"):
        asking.set_psk(b"short")
    asked.read_message(asking.write_message())
    asking.read_message(asked.write_message())
    with pytest.raises(ValueError, match="psk"):
        asking.write_message()
    with pytest.raises(ValueError, match="not finished"):
        asking.split()

    plain, _ = pair(implementation, implementation, Suite(Pattern.XK))
    with pytest.raises(ValueError, match="XKpsk3 only"):
        plain.set_psk(PSK)


@BOTH
def test_no_secret_in_any_repr(implementation: ModuleType) -> None:
    sides = pair(implementation, implementation)
    run(sides, (b"", b"", b""), PSK)
    keys = sides[0].split()

    assert keys.send.hex() not in repr(keys)
    assert repr(keys.send) not in repr(keys)
    assert "private" not in repr(ALICE)
