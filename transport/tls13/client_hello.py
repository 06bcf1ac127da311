"""What a client offers: one hello in the clear, or two with one inside the other (RFC 8446 section 4.1.2, RFC 9849)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from transport.ech.client import EchOffer, GreaseEch
from transport.ech.extension import INNER
from transport.ech.hpke import HpkeError
from transport.tls13 import extensions as ext
from transport.tls13.alerts import illegal_parameter
from transport.tls13.config import ClientConfig
from transport.tls13.constants import ExtensionType, HandshakeType
from transport.tls13.groups import KeyShare, generate
from transport.tls13.messages import ClientHello, Extension, Extensions, handshake_message
from transport.tls13.signatures import VERIFIED_SCHEMES

SHARED: Final = (
    ExtensionType.SUPPORTED_GROUPS,
    ExtensionType.SIGNATURE_ALGORITHMS,
    ExtensionType.SUPPORTED_VERSIONS,
    ExtensionType.KEY_SHARE,
    ExtensionType.COOKIE,
)
"""Extensions that stand in both hellos alike and travel once. The cookie must be in both: there are servers that look
for it in the outer hello only."""


class Offer:
    """The hellos of one connection, and the private keys of their shares."""

    def __init__(self, config: ClientConfig, random: Callable[[int], bytes], session_id: bytes) -> None:
        """`session_id` is 32 random bytes over TCP (RFC 8446 appendix D.4), empty over QUIC. Raises ValueError."""
        self._config: Final = config
        self.shares: Final[dict[int, KeyShare]] = {group: generate(group) for group in config.groups[: config.shares]}
        self.session_id: Final = session_id
        self._cookie: bytes | None = None
        self._compress: Final = (*SHARED, *(extension.type for extension in config.shared_extensions))
        self._hidden: EchOffer | GreaseEch | None = None
        if config.ech is not None:
            try:
                self._hidden = EchOffer(config.ech, random)
            except HpkeError:  # of the right length, and no point that a secret can be agreed with
                raise ValueError("the public key of the ECH configuration is none") from None
        elif config.grease_ech:
            self._hidden = GreaseEch(random)
        self._inner_random: Final = random(32)
        self._outer_random: Final = random(32)
        self.inner: ClientHello | None = None
        """The hello inside ECH, if ECH is offered."""
        self.outer: ClientHello = self._build()

    @property
    def hidden(self) -> bool:
        """Whether ECH is offered for real."""
        return self._config.ech is not None

    @property
    def outer_message(self) -> bytes:
        """What goes over the wire."""
        return handshake_message(HandshakeType.CLIENT_HELLO, self.outer.encode())

    @property
    def inner_message(self) -> bytes:
        """What the transcript of an accepted handshake has in place of `outer_message`."""
        if self.inner is None:
            raise RuntimeError("there is no inner hello")
        return handshake_message(HandshakeType.CLIENT_HELLO, self.inner.encode())

    def retry(self, group: int | None, cookie: bytes | None, *, rejected: bool) -> None:
        """Make the hellos that answer a HelloRetryRequest; `rejected` if it is for the outer hello.

        Raises TlsError if it asks for what was not offered, or for nothing new (RFC 8446 section 4.1.4).
        """
        if group is not None:
            if group not in self._config.groups or group in self.shares:
                raise illegal_parameter("HelloRetryRequest asks for a group that was not offered or has a share")
            self.shares.clear()
            self.shares[group] = generate(group)
        elif cookie is None:
            raise illegal_parameter("HelloRetryRequest changes nothing")
        self._cookie = cookie
        if rejected:
            # RFC 8446 section 4.1.2: the same hello but for share and cookie, ECH extension included.
            self.inner = None
            self.outer = replace(self.outer, extensions=self._with_retry(self.outer.extensions))
        else:
            self.outer = self._build()

    def _build(self) -> ClientHello:
        config = self._config
        shared = self._shared()
        own = (_server_name(config.server_name), *_alpn(config.alpn), *config.extensions)
        if config.ech is None or self._hidden is None:
            plain = self._hello(self._outer_random, (*own, *shared))
            return plain if self._hidden is None else self._hidden.seal(plain, plain, self._compress)
        self.inner = self._hello(self._inner_random, (*own, INNER, *shared))
        front = (_server_name(config.ech.public_name), *_alpn(config.outer_alpn))
        return self._hidden.seal(self.inner, self._hello(self._outer_random, (*front, *shared)), self._compress)

    def _hello(self, random: bytes, extensions: Extensions) -> ClientHello:
        return ClientHello(random, self.session_id, self._config.cipher_suites, extensions)

    def _shared(self) -> Extensions:
        fixed = (
            Extension(ExtensionType.SUPPORTED_GROUPS, ext.code_points(self._config.groups)),
            Extension(ExtensionType.SIGNATURE_ALGORITHMS, ext.code_points(VERIFIED_SCHEMES)),
            Extension(ExtensionType.SUPPORTED_VERSIONS, ext.supported_versions()),
            self._key_share(),
            *self._config.shared_extensions,
        )
        if self._cookie is None:
            return fixed
        return (*fixed, Extension(ExtensionType.COOKIE, ext.cookie(self._cookie)))

    def _key_share(self) -> Extension:
        entries = tuple((group, share.public) for group, share in self.shares.items())
        return Extension(ExtensionType.KEY_SHARE, ext.key_shares(entries))

    def _with_retry(self, old: Extensions) -> Extensions:
        share = self._key_share()
        new = tuple(share if extension.type == ExtensionType.KEY_SHARE else extension for extension in old)
        if self._cookie is None:
            return new
        return (Extension(ExtensionType.COOKIE, ext.cookie(self._cookie)), *new)


def _server_name(name: str) -> Extension:
    return Extension(ExtensionType.SERVER_NAME, ext.server_name(name))


def _alpn(protocols: tuple[bytes, ...]) -> Extensions:
    return (Extension(ExtensionType.ALPN, ext.alpn(protocols)),) if protocols else ()
