"""The client's end: hellos that carry an encrypted one, or look as if they did (RFC 9849 sections 6.1 and 6.2).

Both kinds are used alike, once for the first hello and once more after a HelloRetryRequest:

    sealed = hidden.seal(inner, outer, compress)

and both put the extension last, so that nothing but the key tells them apart.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final, Protocol

from transport.ech import hpke
from transport.ech.config import DEFAULT_SUITES, EchConfig
from transport.ech.extension import OuterExtension, is_inner
from transport.ech.hpke import HpkeError, Random
from transport.ech.inner import encode_inner
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello

GREASE_NAME_LENGTH: Final = 64
"""Bytes up to which a hello without a key pretends to pad names: what `generate_key` asks of clients by default."""


class HiddenHello(Protocol):
    """What a client engine needs of ECH."""

    def seal(self, inner: ClientHello, outer: ClientHello, compress: Collection[int]) -> ClientHello:
        """`outer` with the extension at its end. `outer` must not have one yet; `compress` as in `encode_inner`."""


class EchOffer:
    """ECH offered for real: one HPKE context for the one or two hellos of one connection."""

    __slots__ = ("_enc", "_sender", "_suite", "config")

    config: Final[EchConfig]
    """The configuration in use; its `public_name` belongs into the outer hello, and a rejecting server proves it."""

    def __init__(self, config: EchConfig, random: Random) -> None:
        """`config` is usable (see `choose_config`). Raises HpkeError if its public key turns out to be none."""
        if config.suite is None or not config.is_usable:
            raise HpkeError("this ECH configuration is not usable")
        ephemeral = hpke.generate_key(config.kem_id, random)
        self.config = config
        self._suite = config.suite
        self._sender = hpke.Sender(config.kem_id, config.public_key, config.suite, config.info, ephemeral)
        self._enc = self._sender.enc

    def seal(self, inner: ClientHello, outer: ClientHello, compress: Collection[int]) -> ClientHello:
        """RFC 9849 section 6.1.1. `inner` has the extension `INNER`, and in `outer` stands what is compressed.

        RFC 9849 section 6.1.5, for the second hello: "It reuses the original HPKE encryption context computed in
        Section 6.1 and uses the empty string for enc." Raises ValueError if the two hellos do not fit together.
        """
        _check(inner, outer, compress)
        encoded = encode_inner(inner, compress, self.config.maximum_name_length)
        payload = bytes(len(encoded) + hpke.TAG_LENGTH)
        placeholder = OuterExtension(self._suite, self.config.config_id, self._enc, payload)
        aad = _with_extension(outer, placeholder).encode()
        sealed = replace(placeholder, payload=self._sender.seal(encoded, aad))
        self._enc = b""
        return _with_extension(outer, sealed)


class GreaseEch:
    """ECH offered for show, to a server of which no key is known: the same shape, of random bytes.

    What the server answers to it is checked for its syntax and otherwise ignored; above all its retry_configs are not
    authenticated by anything and must not be kept (RFC 9849 section 6.2.1).
    """

    __slots__ = ("_extension", "_random")

    def __init__(self, random: Random) -> None:
        """`random` gives the bytes that an observer should take for a sealed hello."""
        self._random = random
        self._extension: OuterExtension | None = None

    def seal(self, inner: ClientHello, outer: ClientHello, compress: Collection[int]) -> ClientHello:
        """The real hello is `outer`; of `inner` only the length shows, which may be that of `outer` itself.

        RFC 9849 section 6.2.1: after a HelloRetryRequest "the client copies the entire extension from the first".
        """
        if self._extension is None:
            length = len(encode_inner(inner, compress, GREASE_NAME_LENGTH)) + hpke.TAG_LENGTH
            enc = hpke.public_bytes(hpke.generate_key(hpke.DHKEM_X25519, self._random))
            # Our own configurations ask for this suite first, and so do most: another one would stand out.
            self._extension = OuterExtension(DEFAULT_SUITES[0], self._random(1)[0], enc, self._random(length))
        return _with_extension(outer, self._extension)


def _with_extension(outer: ClientHello, extension: OuterExtension) -> ClientHello:
    return replace(outer, extensions=(*outer.extensions, extension.encode()))


def _check(inner: ClientHello, outer: ClientHello, compress: Collection[int]) -> None:
    """RFC 9849 section 6.1: what the two hellos must and must not have in common. Raises ValueError."""
    if not is_inner(inner) or outer.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO) is not None:
        raise ValueError("the inner hello must have the ECH extension of type inner, the outer hello none yet")
    if inner.session_id != outer.session_id:
        raise ValueError("the outer hello must have the session id of the inner one")
    if inner.random == outer.random:
        raise ValueError("the outer hello must have a random of its own")
    inside = [extension for extension in inner.extensions if extension.type in compress]
    if inside != [extension for extension in outer.extensions if extension.type in compress]:
        raise ValueError("what is compressed must be the same in both hellos, in the same order")
