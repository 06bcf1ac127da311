"""The same handshakes over PyPI's noiseprotocol 0.3.1, behind one door that lets none of its surprises out.

Its surprises: exceptions of `cryptography` and built-ins leak from `read_message`; only `bytes` are taken; payloads
are not capped; keys are derived anew from private bytes each time. It was last released in 2020, so the pieces of its
inside that are used here (`noise_protocol.keypairs`, `.psks`, `.handshake_state`, `.cipher_state_*`) stand still.
"""

from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from noise.backends.default.keypairs import KeyPair25519
from noise.connection import Keypair, NoiseConnection

from transport.noise.errors import NoiseError
from transport.noise.suite import KEY_LENGTH, MAX_MESSAGE, TAG_LENGTH, Pattern, SessionKeys, StaticKey, Suite

_OVERHEAD = 2 * (KEY_LENGTH + TAG_LENGTH)
"""At least what the longest message adds to its payload."""


class PackagedHandshake:
    """Implements `transport.noise.suite.Handshake`. Make it with `initiator` or `responder`."""

    __slots__ = ("_connection", "_failed", "_late_psk", "_remote", "_state", "_turn", "_writes_at")

    def __init__(
        self,
        suite: Suite,
        prologue: bytes,
        static: StaticKey,
        remote_static: bytes | None,
        ephemeral: X25519PrivateKey | None,
    ) -> None:
        self._failed = False
        self._turn = 0
        self._writes_at = (1,) if remote_static is None else (0, 2)
        self._remote = remote_static
        self._late_psk = suite.pattern is Pattern.XKPSK3
        """Whether a psk is still to come."""
        self._connection = NoiseConnection.from_name(suite.name.encode())
        protocol = self._connection.noise_protocol
        # Its public half is never computed with, only sent: deriving it anew would cost 30 us.
        protocol.keypairs["s"] = KeyPair25519(private=static.private, public_bytes=static.public)
        if self._late_psk:
            self._connection.set_psks(psk=bytes(KEY_LENGTH))  # the true one comes before message 3
        self._connection.set_prologue(prologue)
        if remote_static is None:
            self._connection.set_as_responder()
        else:
            self._connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
            self._connection.set_as_initiator()
        self._connection.start_handshake()
        self._state = protocol.handshake_state
        if ephemeral is not None:
            self._state.e = _pair(ephemeral)

    def set_psk(self, psk: bytes) -> None:
        """32 bytes, before message 3."""
        if len(psk) != KEY_LENGTH or not self._connection.noise_protocol.is_psk_handshake:
            raise ValueError("a psk of 32 bytes, for XKpsk3 only")
        self._connection.noise_protocol.psks = [psk]
        self._late_psk = False

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static public key, once it is known."""
        return self._remote

    def write_message(self, payload: bytes = b"") -> bytes:
        """The next message."""
        self._take_turn(writing=True)
        if len(payload) > MAX_MESSAGE - _OVERHEAD:
            raise ValueError("a Noise message has at most 65535 bytes")
        return bytes(self._connection.write_message(bytes(payload)))

    def read_message(self, message: bytes) -> bytes:
        """The payload of the peer's message. Raises NoiseError."""
        self._take_turn(writing=False)
        if len(message) > MAX_MESSAGE:
            self._fail(None)
        try:
            payload = bytes(self._connection.read_message(bytes(message)))
        except Exception as error:  # noqa: BLE001 the package lets every kind out; all mean the same
            self._fail(error)
        if self._turn == 3:
            self._remote = bytes(self._state.rs.public_bytes)
        return payload

    def split(self) -> SessionKeys:
        """After message 3."""
        if not self._connection.handshake_finished or self._failed:
            raise ValueError("the handshake is not finished")
        protocol = self._connection.noise_protocol
        return SessionKeys(
            protocol.handshake_hash, bytes(protocol.cipher_state_encrypt.k), bytes(protocol.cipher_state_decrypt.k)
        )

    def _take_turn(self, *, writing: bool) -> None:
        if self._failed:
            raise NoiseError("the handshake has failed")
        if self._turn == 3 or writing is not (self._turn in self._writes_at):
            raise ValueError("it is the peer's turn, or the handshake is finished")
        if self._turn == 2 and self._late_psk:
            raise ValueError("message 3 needs the psk")
        self._turn += 1

    def _fail(self, cause: Exception | None) -> NoReturn:
        self._failed = True
        raise NoiseError("a Noise message did not authenticate") from cause


def _pair(private: X25519PrivateKey) -> KeyPair25519:
    public: X25519PublicKey = private.public_key()
    return KeyPair25519(private=private, public=public, public_bytes=public.public_bytes_raw())


def initiator(
    suite: Suite,
    prologue: bytes,
    static: StaticKey,
    remote_static: bytes,
    *,
    ephemeral: X25519PrivateKey | None = None,
) -> PackagedHandshake:
    """As `transport.noise.own.initiator`."""
    if len(remote_static) != KEY_LENGTH:
        raise ValueError("a static key has 32 bytes")
    return PackagedHandshake(suite, prologue, static, remote_static, ephemeral)


def responder(
    suite: Suite, prologue: bytes, static: StaticKey, *, ephemeral: X25519PrivateKey | None = None
) -> PackagedHandshake:
    """As `transport.noise.own.responder`."""
    return PackagedHandshake(suite, prologue, static, None, ephemeral)
