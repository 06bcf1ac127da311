"""What a server makes of a ClientHello, without any state (RFC 8446 sections 4.1.1 and 9.2)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from transport.ech.config import EchConfig
from transport.tls13 import extensions as ext
from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter, missing_extension
from transport.tls13.config import ClientOffer
from transport.tls13.constants import TLS13, ExtensionType, SignatureScheme
from transport.tls13.events import EchStatus
from transport.tls13.messages import ClientHello

_CHANGED_BY_RETRY: Final = frozenset(
    {
        ExtensionType.KEY_SHARE,
        ExtensionType.COOKIE,
        ExtensionType.EARLY_DATA,
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.PADDING,
        # Checked by what opens it (RFC 9849 section 7.1.1).
        ExtensionType.ENCRYPTED_CLIENT_HELLO,
        # Never compared: RFC 9849 section 10.12.2 shows how that makes an oracle for the hidden name.
        ExtensionType.SERVER_NAME,
    }
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What can be read from one hello and our configuration."""

    suite: int
    group: int
    share: bytes | None
    """The client's `key_exchange` for `group`; None: it has to be asked for by a HelloRetryRequest."""


def check_form(hello: ClientHello) -> None:
    """What must hold before anything is negotiated. Raises TlsError."""
    versions = hello.extension(ExtensionType.SUPPORTED_VERSIONS)
    if versions is None or TLS13 not in ext.parse_supported_versions(versions.data):
        raise TlsError(AlertDescription.PROTOCOL_VERSION, "the client does not speak TLS 1.3")
    if hello.compression_methods != b"\0":  # section 4.1.2
        raise illegal_parameter("the client offers compression")
    psk = hello.extension(ExtensionType.PRE_SHARED_KEY)
    if psk is not None:  # we never take one, but section 4.2.11 has us check its place, and section 4.2.9 its company
        if hello.extensions[-1] is not psk:
            raise illegal_parameter("pre_shared_key is not the last extension")
        if hello.extension(ExtensionType.PSK_KEY_EXCHANGE_MODES) is None:
            raise missing_extension("the client offers keys and no psk_key_exchange_modes")


def choose_parameters(hello: ClientHello, suites: tuple[int, ...], groups: tuple[int, ...]) -> Parameters:
    """The first suite and group of ours that the client has, but a group with a share before one without.

    Raises TlsError: handshake_failure if there is none, missing_extension (section 9.2), illegal_parameter for a share
    of a group that the client does not support (section 4.2.8).
    """
    suite = next((suite for suite in suites if suite in hello.cipher_suites), None)
    if suite is None:
        raise TlsError(AlertDescription.HANDSHAKE_FAILURE, "no cipher suite in common")
    supported, offered = hello.extension(ExtensionType.SUPPORTED_GROUPS), hello.extension(ExtensionType.KEY_SHARE)
    if supported is None or offered is None:
        raise missing_extension("the client has no supported_groups or no key_share")
    theirs = ext.parse_code_points(supported.data)
    shares = ext.parse_key_shares(offered.data)
    if not shares.keys() <= set(theirs):
        raise illegal_parameter("a key share of a group that the client does not support")
    common = [group for group in groups if group in theirs]
    if not common:
        raise TlsError(AlertDescription.HANDSHAKE_FAILURE, "no group in common")
    group = next((group for group in common if group in shares), common[0])
    return Parameters(suite, group, shares.get(group))


def read_offer(hello: ClientHello, ech: EchStatus, ech_config: EchConfig | None) -> ClientOffer:
    """What the client asks for. Raises TlsError."""
    name, protocols = hello.extension(ExtensionType.SERVER_NAME), hello.extension(ExtensionType.ALPN)
    return ClientOffer(
        server_name=None if name is None else ext.parse_server_name(name.data),
        alpn=() if protocols is None else ext.parse_alpn(protocols.data),
        ech=ech,
        ech_config=ech_config,
        extensions=hello.extensions,
    )


def choose_scheme(hello: ClientHello, ours: tuple[SignatureScheme, ...]) -> SignatureScheme:
    """The first of `ours` that the client verifies. Raises TlsError: missing_extension or handshake_failure."""
    algorithms = hello.extension(ExtensionType.SIGNATURE_ALGORITHMS)
    if algorithms is None:
        raise missing_extension("the client has no signature_algorithms")
    theirs = ext.parse_code_points(algorithms.data)
    for scheme in ours:
        if scheme in theirs:
            return scheme
    raise TlsError(AlertDescription.HANDSHAKE_FAILURE, "no signature scheme in common")


def check_second(first: ClientHello, second: ClientHello, group: int | None) -> None:
    """RFC 8446 section 4.1.2: after a HelloRetryRequest the client "MUST send the same ClientHello", but for the share.

    `group` is the one that was asked for: there must be a share for it and nothing else (section 4.2.8).
    """
    if _constant(first) != _constant(second):
        raise illegal_parameter("the second hello differs from the first")
    if second.extension(ExtensionType.EARLY_DATA) is not None:  # section 4.2.10
        raise illegal_parameter("the second hello offers early data")
    share = second.extension(ExtensionType.KEY_SHARE)
    if share is None:
        raise missing_extension("the second hello has no key share")
    if group is not None and list(ext.parse_key_shares(share.data)) != [group]:
        raise illegal_parameter("the second hello has not the one key share that was asked for")


def _constant(hello: ClientHello) -> tuple[ClientHello, Mapping[int, bytes]]:
    extensions = {entry.type: entry.data for entry in hello.extensions if entry.type not in _CHANGED_BY_RETRY}
    return replace(hello, extensions=()), extensions
