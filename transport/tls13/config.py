"""What the two ends want of a connection."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from transport.ech.config import EchConfig, EchKey, encode_config_list
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.certificates import Credential, Trust
from transport.tls13.constants import CipherSuite, NamedGroup
from transport.tls13.events import EchStatus
from transport.tls13.groups import is_known_group
from transport.tls13.key_schedule import SUITES
from transport.tls13.messages import Extensions

DEFAULT_SUITES: Final = (
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.CHACHA20_POLY1305_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
)
DEFAULT_GROUPS: Final = (
    NamedGroup.X25519MLKEM768,
    NamedGroup.X25519,
    NamedGroup.SECP256R1,
    NamedGroup.SECP384R1,
)
POST_QUANTUM_GROUPS: Final = (NamedGroup.X25519MLKEM768,)
"""As `groups` of either end: a handshake without post-quantum key exchange fails, HelloRetryRequest or not."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a client offers and accepts. Raises ValueError for what could never work."""

    server_name: str
    """Host name in A-labels: what the certificate must be for, and what is asked for, inside ECH if there is some."""
    trust: Trust
    ech: EchConfig | None = None
    """What to encrypt the hello to: `choose_config(parse_config_list(...))`. Whether going without is allowed is for
    the caller to decide *before*: None sends `server_name` in the clear."""
    grease_ech: bool = True
    """Without `ech`: send an extension that looks like it."""
    alpn: tuple[bytes, ...] = ()
    outer_alpn: tuple[bytes, ...] = (b"h2", b"http/1.1")
    """What the outer hello offers: the same for everybody, whatever the inner hello asks for."""
    cipher_suites: tuple[int, ...] = DEFAULT_SUITES
    groups: tuple[int, ...] = DEFAULT_GROUPS
    shares: int = 1
    """For how many of `groups`, from the first on, the first hello has a key share."""
    extensions: Extensions = ()
    """More for the hello that counts: the inner one, never the outer. The server may answer them."""
    shared_extensions: Extensions = ()
    """More for both hellos alike, travelling once: QUIC transport parameters (RFC 9001 section 8.2)."""

    def __post_init__(self) -> None:
        _check(self.cipher_suites, self.groups, (*self.alpn, *self.outer_alpn))
        if not 1 <= self.shares <= len(self.groups):
            raise ValueError("the first hello has a share for one group at least, and for those offered at most")
        if not self.server_name.isascii() or not 1 <= len(self.server_name) <= 253:
            raise ValueError("a server name has 1 to 253 ASCII characters")
        if self.ech is not None and not self.ech.is_usable:
            raise ValueError("this ECH configuration is not usable")


@dataclass(frozen=True, slots=True)
class ClientOffer:
    """What a client asks for, of the hello that counts: the inner one if ECH was accepted."""

    server_name: str | None
    """In lower case; None if the client names none."""
    alpn: tuple[bytes, ...]
    """In the client's order; empty if it offers none."""
    ech: EchStatus
    ech_config: EchConfig | None
    """The one that the client encrypted to, if ECH was accepted."""
    extensions: Extensions


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """What a server answers."""

    credential: Credential
    alpn: bytes | None = None
    """One of those offered, or None to use none."""
    extensions: Extensions = ()
    """More for EncryptedExtensions. The client must have offered each type."""


Choose = Callable[[ClientOffer], ServerChoice]
"""Decides what a client gets; raises TlsError to refuse it. Called once per handshake, with nothing authenticated."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a server has and accepts. Raises ValueError for what could never work."""

    credentials: tuple[Credential, ...]
    """The first one is for clients that name none of the others' names: the same for every unknown name."""
    alpn: tuple[bytes, ...] = ()
    """In our order of preference. Empty: whatever the client offers is ignored."""
    cipher_suites: tuple[int, ...] = DEFAULT_SUITES
    groups: tuple[int, ...] = DEFAULT_GROUPS
    ech_keys: tuple[EchKey, ...] = field(default=(), repr=False)
    """What hellos are opened with: the current key first, then those that are still honoured. To open one needs no
    certificate for the public name."""
    ech_retry: tuple[EchConfig, ...] = ()
    """What a client whose ECH we cannot open is told to use. Empty: the configuration of the first key. Either way we
    must have a certificate for the public name, or the client could not come a second time."""
    choose: Choose | None = None
    """Instead of `choose_by_name`."""

    def __post_init__(self) -> None:
        _check(self.cipher_suites, self.groups, self.alpn)
        if not self.credentials:
            raise ValueError("a server needs a certificate")
        for config in self._offered:
            if not any(credential.covers(config.public_name) for credential in self.credentials):
                # A client whose ECH is rejected believes the retry configurations of `public_name` only.
                raise ValueError("a server needs a certificate for the public name of each configuration it offers")

    @property
    def retry_configs(self) -> bytes | None:
        """The ECHConfigList for clients whose ECH we cannot open, or None if we have no keys at all."""
        return encode_config_list(self._offered) if self._offered else None

    @property
    def _offered(self) -> tuple[EchConfig, ...]:
        return self.ech_retry or tuple(key.config for key in self.ech_keys[:1])

    def choose_by_name(self, offer: ClientOffer) -> ServerChoice:
        """The credential for the name, or the first; the first of our protocols that the client offers.

        Raises TlsError(no_application_protocol), RFC 7301 section 3.2; but a client whose ECH we could not open gets
        to Finished without a protocol, because only there it learns which configuration to use.
        """
        credential = self.credential_for(offer.server_name)
        if offer.ech is EchStatus.REJECTED and not set(self.alpn) & set(offer.alpn):
            return ServerChoice(credential)
        return ServerChoice(credential, select_alpn(self.alpn, offer.alpn))

    def credential_for(self, name: str | None) -> Credential:
        """The first one that covers `name`, or else the first one."""
        if name is not None:
            for credential in self.credentials:
                if credential.covers(name):
                    return credential
        return self.credentials[0]


def select_alpn(ours: tuple[bytes, ...], offered: tuple[bytes, ...]) -> bytes | None:
    """The first of `ours` that is offered; None if either side has none. Raises TlsError(no_application_protocol)."""
    if not ours or not offered:
        return None
    for protocol in ours:
        if protocol in offered:
            return protocol
    raise TlsError(AlertDescription.NO_APPLICATION_PROTOCOL, "no application protocol in common")


def _check(suites: tuple[int, ...], groups: tuple[int, ...], protocols: tuple[bytes, ...]) -> None:
    if not suites or not all(suite in SUITES for suite in suites):
        raise ValueError("cipher suites are one or more of TLS_AES_128_GCM, TLS_AES_256_GCM, TLS_CHACHA20_POLY1305")
    if not groups or not all(is_known_group(group) for group in groups):
        raise ValueError("groups are one or more of X25519MLKEM768, X25519, P-256, P-384")
    if not all(1 <= len(protocol) <= 255 for protocol in protocols):
        raise ValueError("an application protocol has 1 to 255 bytes")
