"""The server's end: opening the hello inside a hello (RFC 9849 section 7.1), in shared mode."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from transport.ech.config import EchConfig, EchKey
from transport.ech.extension import OuterExtension, outer_aad, parse_outer
from transport.ech.hpke import CipherSuite, HpkeError, Recipient
from transport.ech.inner import decode_inner
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello


@dataclass(frozen=True, slots=True)
class OpenedHello:
    """ECH accepted: everything is negotiated from `inner` alone, and the transcript is that of `inner`."""

    inner: ClientHello
    """Complete: nothing is left to expand."""
    config: EchConfig
    """The one it was sealed to."""
    _suite: CipherSuite
    _recipient: Recipient = field(repr=False)

    def open_second(self, outer: ClientHello, body: bytes) -> ClientHello:
        """The inner hello of the answer to our HelloRetryRequest (RFC 9849 section 7.1.1). To be called once.

        The context is the one of the first hello, so nobody on the path can replace it by one of their own (section
        10.12.2, HelloRetryRequest hijack). Raises TlsError; after that the connection is over.
        """
        extension = outer.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)
        if extension is None:
            raise TlsError(AlertDescription.MISSING_EXTENSION, "the second hello is without ECH")
        offered = parse_outer(extension)
        if (offered.suite, offered.config_id, offered.enc) != (self._suite, self.config.config_id, b""):
            raise TlsError(AlertDescription.ILLEGAL_PARAMETER, "the second hello offers another ECH than the first")
        try:
            encoded = self._recipient.open(offered.payload, outer_aad(body, extension, len(offered.payload)))
        except HpkeError:
            raise TlsError(AlertDescription.DECRYPT_ERROR, "the second hello does not open") from None
        return decode_inner(encoded, outer)


def open_first(outer: ClientHello, body: bytes, keys: Iterable[EchKey]) -> OpenedHello | None:
    """What is inside `outer`, if it offers ECH and one of `keys` opens it; with None the handshake is that of `outer`.

    `body` is the message from which `outer` was parsed, without its header of four bytes. Keys are tried in order if
    their config_id is the one offered; there is no trial decryption with the others. Each try costs some 0.1 ms, so the
    caller limits how many hellos an address may send.

    None also for what is meant for a key that is gone, and for GREASE, which cannot be told from it. The server then
    answers with its current configurations in EncryptedExtensions if `outer` has the extension, and only then. Raises
    TlsError for what no honest client sends. Second hellos after a rejection are not opened; call this with no keys.
    """
    extension = outer.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)
    if extension is None:
        return None
    offered = parse_outer(extension)
    aad = outer_aad(body, extension, len(offered.payload))
    for key in keys:
        if key.config.config_id != offered.config_id or offered.suite not in key.config.cipher_suites:
            continue
        opened = _open(key, offered, aad)
        if opened is not None:
            encoded, recipient = opened
            return OpenedHello(decode_inner(encoded, outer), key.config, offered.suite, recipient)
    return None


def _open(key: EchKey, offered: OuterExtension, aad: bytes) -> tuple[bytes, Recipient] | None:
    try:
        recipient = Recipient(key.private_key, offered.enc, offered.suite, key.config.info)
        return recipient.open(offered.payload, aad), recipient
    except HpkeError:
        return None
