"""The handshakes XK and XKpsk3 over Curve25519, written out (Noise revision 34, sections 5 and 7.5).

    XK:   <- s            XKpsk3 ends with
          ...
          -> e, es
          <- e, ee
          -> s, se             -> s, se, psk

Stricter than the framework: an all-zero Diffie-Hellman result is an error (section 12.1 leaves it open). Limits: keys
are `bytes` and cannot be wiped; this object holds them no longer than the handshake lasts.
"""

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from transport.noise.errors import NoiseError
from transport.noise.suite import (
    KEY_LENGTH,
    MAX_MESSAGE,
    TAG_LENGTH,
    Aead,
    Hash,
    Pattern,
    SessionKeys,
    StaticKey,
    Suite,
)

_MESSAGES: Final = (("e", "es"), ("e", "ee"), ("s", "se"))
_ALGORITHM: Final = {Hash.SHA256: "sha256", Hash.SHA512: "sha512", Hash.BLAKE2S: "blake2s", Hash.BLAKE2B: "blake2b"}
_NONCE_ORDER: Final = {Aead.AESGCM: "big", Aead.CHACHAPOLY: "little"}


class _Symmetric:
    """SymmetricState and its CipherState (sections 5.1 and 5.2)."""

    __slots__ = ("_algorithm", "_big_endian", "_cipher", "_new_cipher", "_nonce", "chaining_key", "hash")

    def __init__(self, suite: Suite) -> None:
        self._algorithm = _ALGORITHM[suite.hash]
        self._new_cipher = AESGCM if suite.aead is Aead.AESGCM else ChaCha20Poly1305
        self._big_endian = _NONCE_ORDER[suite.aead] == "big"
        self._cipher: AESGCM | ChaCha20Poly1305 | None = None
        self._nonce = 0
        name = suite.name.encode()
        length = hashlib.new(self._algorithm).digest_size
        self.hash = name.ljust(length, b"\0") if len(name) <= length else self._digest(name)
        self.chaining_key = self.hash

    def mix_hash(self, data: bytes) -> None:
        self.hash = self._digest(self.hash + data)

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, key = self.hkdf(material, 2)
        self._set_key(key)

    def mix_key_and_hash(self, material: bytes) -> None:
        self.chaining_key, hashed, key = self.hkdf(material, 3)
        self.mix_hash(hashed)
        self._set_key(key)

    def hkdf(self, material: bytes, outputs: int) -> list[bytes]:
        """Section 4.3."""
        secret = hmac.digest(self.chaining_key, material, self._algorithm)
        found = [b""]
        for counter in range(1, outputs + 1):
            found.append(hmac.digest(secret, found[-1] + bytes([counter]), self._algorithm))
        return found[1:]

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        data = plaintext if self._cipher is None else self._cipher.encrypt(self._next_nonce(), plaintext, self.hash)
        self.mix_hash(data)
        return data

    def decrypt_and_hash(self, data: bytes) -> bytes:
        plaintext = data if self._cipher is None else self._cipher.decrypt(self._next_nonce(), data, self.hash)
        self.mix_hash(data)
        return plaintext

    def _set_key(self, key: bytes) -> None:
        self._cipher = self._new_cipher(key[:KEY_LENGTH])
        self._nonce = 0

    def _next_nonce(self) -> bytes:
        nonce = self._nonce.to_bytes(8, "big" if self._big_endian else "little")
        self._nonce += 1
        return b"\0\0\0\0" + nonce

    def _digest(self, data: bytes) -> bytes:
        return hashlib.new(self._algorithm, data).digest()


class OwnHandshake:
    """Implements `transport.noise.suite.Handshake`. Make it with `initiator` or `responder`."""

    __slots__ = (
        "_ephemeral",
        "_failed",
        "_initiates",
        "_messages",
        "_psk",
        "_remote",
        "_static",
        "_symmetric",
        "_turn",
    )

    def __init__(
        self,
        suite: Suite,
        prologue: bytes,
        static: StaticKey,
        remote_static: bytes | None,
        ephemeral: X25519PrivateKey | None,
    ) -> None:
        self._initiates = remote_static is not None
        self._static = static
        self._ephemeral = ephemeral
        self._remote: dict[str, X25519PublicKey] = {}
        """The peer's keys as they become known: "s" and "e"."""
        self._psk: bytes | None = None
        self._turn = 0
        self._failed = False
        first, second, third = _MESSAGES
        self._messages = (first, second, (*third, "psk") if suite.pattern is Pattern.XKPSK3 else third)
        self._symmetric = _Symmetric(suite)
        self._symmetric.mix_hash(prologue)
        if remote_static is not None:
            self._remote["s"] = X25519PublicKey.from_public_bytes(remote_static)
        self._symmetric.mix_hash(static.public if remote_static is None else remote_static)

    def set_psk(self, psk: bytes) -> None:
        """32 bytes, before message 3."""
        if len(psk) != KEY_LENGTH or len(self._messages[2]) != 3:
            raise ValueError("a psk of 32 bytes, for XKpsk3 only")
        self._psk = psk

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static public key, once it is known."""
        key = self._remote.get("s")
        return None if key is None else key.public_bytes_raw()

    def write_message(self, payload: bytes = b"") -> bytes:
        """The next message."""
        message = bytearray()
        for step in self._take_turn(writing=True):
            if step == "e":
                self._ephemeral = self._ephemeral or X25519PrivateKey.generate()
                public = self._ephemeral.public_key().public_bytes_raw()
                message += public
                self._mix_ephemeral(public)
            elif step == "s":
                message += self._symmetric.encrypt_and_hash(self._static.public)
            else:
                self._mix_secret(step)
        message += self._symmetric.encrypt_and_hash(payload)
        if len(message) > MAX_MESSAGE:
            raise ValueError("a Noise message has at most 65535 bytes")
        return bytes(message)

    def read_message(self, message: bytes) -> bytes:
        """The payload of the peer's message. Raises NoiseError."""
        steps = self._take_turn(writing=False)
        if len(message) > MAX_MESSAGE:
            return self._fail(None)
        at = 0
        try:
            for step in steps:
                if step == "e":
                    public = message[at : at + KEY_LENGTH]
                    at += KEY_LENGTH
                    self._remote["e"] = X25519PublicKey.from_public_bytes(public)
                    self._mix_ephemeral(public)
                elif step == "s":
                    sealed = message[at : at + KEY_LENGTH + TAG_LENGTH]
                    at += KEY_LENGTH + TAG_LENGTH
                    self._remote["s"] = X25519PublicKey.from_public_bytes(self._symmetric.decrypt_and_hash(sealed))
                else:
                    self._mix_secret(step)
            return self._symmetric.decrypt_and_hash(message[at:])
        except (InvalidTag, ValueError) as error:
            return self._fail(error)

    def split(self) -> SessionKeys:
        """After message 3."""
        if self._turn != len(self._messages) or self._failed:
            raise ValueError("the handshake is not finished")
        first, second = (key[:KEY_LENGTH] for key in self._symmetric.hkdf(b"", 2))
        send, receive = (first, second) if self._initiates else (second, first)
        return SessionKeys(self._symmetric.hash, send, receive)

    def _take_turn(self, *, writing: bool) -> tuple[str, ...]:
        if self._failed:
            raise NoiseError("the handshake has failed")
        if self._turn == len(self._messages) or writing is not ((self._turn % 2 == 0) is self._initiates):
            raise ValueError("it is the peer's turn, or the handshake is finished")
        if "psk" in self._messages[self._turn] and self._psk is None:
            raise ValueError("message 3 needs the psk")
        self._turn += 1
        return self._messages[self._turn - 1]

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if len(self._messages[2]) == 3:  # section 9.2: with a psk, ephemeral keys are mixed into the chaining key, too
            self._symmetric.mix_key(public)

    def _mix_secret(self, step: str) -> None:
        if step == "psk":
            self._symmetric.mix_key_and_hash(self._psk or b"")
            return
        # "es": e of the initiator, s of the responder
        ours, theirs = step[not self._initiates], step[self._initiates]
        private = self._ephemeral if ours == "e" else self._static.private
        if private is None:
            raise ValueError("no ephemeral key")
        self._symmetric.mix_key(private.exchange(self._remote[theirs]))

    def _fail(self, cause: Exception | None) -> bytes:
        self._failed = True
        self._psk = None
        raise NoiseError("a Noise message did not authenticate") from cause


def initiator(
    suite: Suite,
    prologue: bytes,
    static: StaticKey,
    remote_static: bytes,
    *,
    ephemeral: X25519PrivateKey | None = None,
) -> OwnHandshake:
    """The side that knows the other's static key, 32 bytes. `ephemeral`: fresh unless a test gives it.

    Raises ValueError when `remote_static` is no key.
    """
    return OwnHandshake(suite, prologue, static, remote_static, ephemeral)


def responder(
    suite: Suite, prologue: bytes, static: StaticKey, *, ephemeral: X25519PrivateKey | None = None
) -> OwnHandshake:
    """The side that is asked."""
    return OwnHandshake(suite, prologue, static, None, ephemeral)
