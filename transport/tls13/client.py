"""A client's handshake (RFC 8446 section 2, appendix A.1; RFC 9849 section 6.1).

      START            send ClientHello
        WAIT_SERVER_HELLO    ServerHello (or, once, HelloRetryRequest: send ClientHello again)
        WAIT_EXTENSIONS      EncryptedExtensions
        WAIT_CERTIFICATE     CertificateRequest (once, answered with no certificate) or Certificate
        WAIT_VERIFY          CertificateVerify
        WAIT_FINISHED        Finished: send [Certificate,] Finished
      DONE

Until ServerHello there are two handshakes if ECH was offered, one with the inner and one with the outer hello. Its
confirmation says which one goes on. That of the outer hello goes on to its end, authenticates `public_name`, and then
fails: nothing the application sends or receives may belong to it.
"""

import hmac
from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto
from typing import Final

from transport.ech.config import EchConfigError, parse_config_list
from transport.ech.confirmation import retry_request_accepts, server_hello_accepts
from transport.tls13 import extensions as ext
from transport.tls13.alerts import (
    AlertDescription,
    EchRejectedError,
    EchUnprovedError,
    TlsError,
    illegal_parameter,
    missing_extension,
    unexpected_message,
)
from transport.tls13.answers import check_encrypted_extensions, check_retry_request, check_server_hello
from transport.tls13.client_hello import Offer
from transport.tls13.config import ClientConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import TLS12, TLS13, ExtensionType, HandshakeType
from transport.tls13.events import EchStatus, HandshakeComplete
from transport.tls13.flight import Flight, RecordedFlight
from transport.tls13.key_schedule import SUITES, KeySchedule, Suite, Transcript
from transport.tls13.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    Extensions,
    ServerHello,
    find,
    handshake_message,
    older_version,
    parse_encrypted_extensions,
)
from transport.tls13.record import BufferPool, RecordReader, RecordWriter
from transport.tls13.signatures import VERIFIED_SCHEMES, signed_content, verify


def connect(
    config: ClientConfig,
    *,
    random: Callable[[int], bytes],
    now: datetime,
    buffers: BufferPool | None = None,
) -> Connection:
    """A connection with its ClientHello ready to be sent.

    `random` is os.urandom or as good. `now` (UTC) judges the server's certificate. `buffers` are shared by the
    connections of one event loop; without them the connection has its own. Raises ValueError for an ECH configuration
    whose public key is none: it may come from a peer.
    """
    # RFC 8446 section 5.1: an initial ClientHello MAY say 0x0301 for compatibility, and everybody's does.
    reader, writer = RecordReader(buffers or BufferPool()), RecordWriter(first_version=0x0301)
    flight = RecordedFlight(reader, writer)
    return Connection(reader, writer, flight, ClientHandshake(config, flight, random, now, random(32)))


class _State(Enum):
    WAIT_SERVER_HELLO = auto()
    WAIT_EXTENSIONS = auto()
    WAIT_CERTIFICATE = auto()
    WAIT_VERIFY = auto()
    WAIT_FINISHED = auto()
    DONE = auto()


class ClientHandshake:
    """One handshake, over any Flight."""

    is_client: Final = True

    def __init__(
        self,
        config: ClientConfig,
        flight: Flight,
        random: Callable[[int], bytes],
        now: datetime,
        session_id: bytes,
    ) -> None:
        self._config: Final = config
        self._flight: Final = flight
        self._now: Final = now
        self._state = _State.WAIT_SERVER_HELLO
        self._offer: Final = Offer(config, random, session_id)
        self._transcript = Transcript()
        """Of the outer hello until ServerHello says which one counts."""
        self._inner_transcript: Transcript | None = Transcript() if self._offer.hidden else None
        self._retry_suite: int | None = None
        """The suite of the HelloRetryRequest, once there was one."""
        self._suite = SUITES[config.cipher_suites[0]]
        self._group = 0
        self._ech = EchStatus.NOT_OFFERED
        self._schedule: KeySchedule | None = None
        self._client_secret = b""
        self._server_secret = b""
        self._extensions: Extensions = ()
        self._alpn: bytes | None = None
        self._retry_configs: bytes | None = None
        self._certificate_requested = False
        self._certificates: tuple[bytes, ...] = ()

    def start(self) -> None:
        """Send the first ClientHello."""
        self._send_hello()

    def handle(self, kind: int, message: bytes) -> HandshakeComplete | None:
        """Take the server's next message. Raises TlsError."""
        body = message[4:]
        match self._state, kind:
            case _State.WAIT_SERVER_HELLO, HandshakeType.SERVER_HELLO:
                self._server_hello(body, message)
            case _State.WAIT_EXTENSIONS, HandshakeType.ENCRYPTED_EXTENSIONS:
                self._encrypted_extensions(body)
                self._transcript.add(message)
                self._state = _State.WAIT_CERTIFICATE
            case _State.WAIT_CERTIFICATE, HandshakeType.CERTIFICATE_REQUEST if not self._certificate_requested:
                self._certificate_request(body)
                self._transcript.add(message)
            case _State.WAIT_CERTIFICATE, HandshakeType.CERTIFICATE:
                self._certificate(body)
                self._transcript.add(message)
                self._state = _State.WAIT_VERIFY
            case _State.WAIT_VERIFY, HandshakeType.CERTIFICATE_VERIFY:
                self._certificate_verify(body)
                self._transcript.add(message)
                self._state = _State.WAIT_FINISHED
            case _State.WAIT_FINISHED, HandshakeType.FINISHED:
                return self._finished(body, message)
            case _:
                raise unexpected_message("a handshake message out of turn")
        return None

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 8446 section 7.5)."""
        if self._schedule is None or self._state is not _State.DONE:
            raise RuntimeError("nothing can be exported before the handshake is complete")
        return self._schedule.export(label, context, length)

    # Hellos

    def _send_hello(self) -> None:
        message = self._offer.outer_message
        self._transcript.add(message)
        if self._inner_transcript is not None:
            self._inner_transcript.add(self._offer.inner_message)
        self._flight.send(message)

    def _server_hello(self, body: bytes, message: bytes) -> None:
        hello = ServerHello.parse(body)
        suite = self._check_hello(hello)
        if self._retry_suite is None:
            self._transcript.start(suite)
            if self._inner_transcript is not None:
                self._inner_transcript.start(suite)
        if hello.is_retry_request:
            self._hello_retry_request(hello, body, message)
            return
        group, share = self._check_server_hello(hello)
        self._settle_ech(body)
        self._transcript.add(message)
        self._suite, self._group = suite, group
        self._schedule = KeySchedule(suite, self._offer.shares[group].agree(share))
        self._offer.shares.clear()
        self._client_secret, self._server_secret = self._schedule.handshake_secrets(self._transcript.digest())
        self._flight.read_with(suite, self._server_secret)
        self._send_change_cipher_spec()
        self._flight.write_with(suite, self._client_secret)
        self._state = _State.WAIT_EXTENSIONS

    def _check_hello(self, hello: ServerHello) -> Suite:
        """What ServerHello and HelloRetryRequest have in common."""
        version = hello.extension(ExtensionType.SUPPORTED_VERSIONS)
        if version is None:
            raise older_version(hello.random)
        if ext.parse_code_point(version.data) != TLS13 or hello.legacy_version != TLS12:
            raise illegal_parameter("the server selected a version that was not offered")
        if hello.session_id != self._offer.session_id or hello.compression_method != 0:
            raise illegal_parameter("the server did not echo the session id, or compresses")
        if hello.cipher_suite not in self._config.cipher_suites:
            raise illegal_parameter("the server selected a cipher suite that was not offered")
        if self._retry_suite not in (None, hello.cipher_suite):
            raise illegal_parameter("the server selected another cipher suite than in its HelloRetryRequest")
        return SUITES[hello.cipher_suite]

    def _hello_retry_request(self, hello: ServerHello, body: bytes, message: bytes) -> None:
        """RFC 8446 section 4.1.4."""
        if self._retry_suite is not None:
            raise unexpected_message("a second HelloRetryRequest")
        self._flight.expect_silence()
        check_retry_request(hello.extensions, self._offer.outer)
        share, cookie = hello.extension(ExtensionType.KEY_SHARE), hello.extension(ExtensionType.COOKIE)
        group = None if share is None else ext.parse_code_point(share.data)
        accepted = self._settle_retry(hello, body, message)
        self._retry_suite = hello.cipher_suite
        rejected = self._offer.hidden and not accepted
        self._offer.retry(group, None if cookie is None else ext.parse_cookie(cookie.data), rejected=rejected)
        self._send_change_cipher_spec()
        self._send_hello()

    def _settle_retry(self, hello: ServerHello, body: bytes, message: bytes) -> bool:
        """Put HelloRetryRequest into the transcripts; whether it accepts ECH (RFC 9849 section 6.1.4)."""
        accepted = False
        if self._inner_transcript is not None and self._offer.inner is not None:
            self._inner_transcript.restart()
            accepted = retry_request_accepts(body, self._offer.inner.random, self._inner_transcript.running)
            self._inner_transcript.add(message)
            if not accepted:
                self._inner_transcript = None
        elif (confirmation := hello.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)) and len(confirmation.data) != 8:
            raise TlsError(AlertDescription.DECODE_ERROR, "the confirmation in a HelloRetryRequest has not eight bytes")
        self._transcript.restart()
        self._transcript.add(message)
        return accepted

    def _check_server_hello(self, hello: ServerHello) -> tuple[int, bytes]:
        check_server_hello(hello.extensions, self._offer.outer)
        share = hello.extension(ExtensionType.KEY_SHARE)
        if share is None:
            raise missing_extension("ServerHello has no key share")
        group, key = ext.parse_key_share(share.data)
        if group not in self._offer.shares:
            raise illegal_parameter("the server has a key share for a group that we have none for")
        return group, key

    def _settle_ech(self, body: bytes) -> None:
        """Which of the two handshakes goes on."""
        if not self._offer.hidden:
            return
        self._ech = EchStatus.REJECTED
        if self._inner_transcript is None or self._offer.inner is None:
            return
        if server_hello_accepts(body, self._offer.inner.random, self._inner_transcript.running):
            self._ech = EchStatus.ACCEPTED
            self._transcript = self._inner_transcript
        elif self._retry_suite is not None:
            raise illegal_parameter("the server accepted ECH in HelloRetryRequest and not in ServerHello")
        self._inner_transcript = None

    # What the server says under its handshake keys

    @property
    def _hello(self) -> ClientHello:
        """The hello that the server answers."""
        if self._ech is EchStatus.ACCEPTED and self._offer.inner is not None:
            return self._offer.inner
        return self._offer.outer

    def _encrypted_extensions(self, body: bytes) -> None:
        extensions = parse_encrypted_extensions(body)
        check_encrypted_extensions(extensions, self._hello)
        for extension in extensions:
            match extension.type:
                case ExtensionType.SERVER_NAME if extension.data:
                    raise TlsError(AlertDescription.DECODE_ERROR, "the server's server_name is not empty")
                case ExtensionType.SUPPORTED_GROUPS:
                    ext.parse_code_points(extension.data)
                case ExtensionType.ALPN:
                    self._select_alpn(ext.parse_selected_alpn(extension.data))
                case ExtensionType.ENCRYPTED_CLIENT_HELLO:
                    self._take_retry_configs(extension.data)
                case _:
                    pass
        self._extensions = extensions

    def _select_alpn(self, protocol: bytes) -> None:
        offered = self._hello.extension(ExtensionType.ALPN)
        if offered is None or protocol not in ext.parse_alpn(offered.data):
            raise illegal_parameter("the server selected an application protocol that was not offered")
        self._alpn = protocol

    def _take_retry_configs(self, data: bytes) -> None:
        """RFC 9849 sections 5 and 6.2.1: for a rejected client only; checked, and forgotten, after GREASE."""
        if self._ech is EchStatus.ACCEPTED:
            raise TlsError(AlertDescription.UNSUPPORTED_EXTENSION, "retry configurations though ECH was accepted")
        try:
            parse_config_list(data)
        except EchConfigError:
            raise TlsError(AlertDescription.DECODE_ERROR, "the retry configurations are no ECHConfigList") from None
        if self._ech is EchStatus.REJECTED:
            self._retry_configs = data

    def _certificate_request(self, body: bytes) -> None:
        """RFC 8446 section 4.3.2. We have no certificate, and say so."""
        request = CertificateRequest.parse(body)
        if request.context:
            raise illegal_parameter("CertificateRequest has a context during the handshake")
        algorithms = find(request.extensions, ExtensionType.SIGNATURE_ALGORITHMS)
        if algorithms is None:
            raise missing_extension("CertificateRequest has no signature_algorithms")
        ext.parse_code_points(algorithms.data)
        self._certificate_requested = True

    def _certificate(self, body: bytes) -> None:
        certificate = Certificate.parse(body)
        if certificate.context:
            raise illegal_parameter("Certificate has a context during the handshake")
        if not certificate.entries:  # RFC 8446 section 4.4.2.4
            raise TlsError(AlertDescription.DECODE_ERROR, "the server has no certificate")
        if any(entry.extensions for entry in certificate.entries):  # section 4.4.2: we asked for none of them
            raise TlsError(AlertDescription.UNSUPPORTED_EXTENSION, "a certificate has an extension nobody asked for")
        self._certificates = tuple(entry.data for entry in certificate.entries)

    def _certificate_verify(self, body: bytes) -> None:
        """The chain must be for the name we asked for, or for `public_name` if ECH was rejected."""
        name = self._config.server_name
        if self._ech is EchStatus.REJECTED and self._config.ech is not None:
            name = self._config.ech.public_name
        signed = CertificateVerify.parse(body)
        if signed.scheme not in VERIFIED_SCHEMES:
            raise illegal_parameter("the server signed with a scheme that was not offered")
        try:
            key = self._config.trust.verify(self._certificates, name, self._now)
            verify(signed.scheme, key, signed.signature, signed_content(self._transcript.digest()))
        except TlsError as error:
            raise EchUnprovedError(error.alert, error.why) if self._ech is EchStatus.REJECTED else error from None

    def _finished(self, body: bytes, message: bytes) -> HandshakeComplete:
        suite, schedule = self._suite, self._schedule
        if schedule is None:
            raise RuntimeError("Finished before keys")
        if len(body) != suite.hash_length:
            raise TlsError(AlertDescription.DECODE_ERROR, "Finished has not the length of the hash")
        if not hmac.compare_digest(body, suite.finished(self._server_secret, self._transcript.digest())):
            raise TlsError(AlertDescription.DECRYPT_ERROR, "the server's Finished is wrong")
        self._transcript.add(message)
        client, server = schedule.application_secrets(self._transcript.digest())
        self._flight.read_with(suite, server)
        self._send_finished()
        self._flight.write_with(suite, client)
        self._client_secret = self._server_secret = b""
        if self._ech is EchStatus.REJECTED:  # RFC 9849 section 6.1.6; the alert goes under the application keys
            raise EchRejectedError(self._retry_configs)
        self._state = _State.DONE
        return HandshakeComplete(
            cipher_suite=suite.id,
            group=self._group,
            alpn=self._alpn,
            server_name=self._config.server_name,
            ech=self._ech,
            extensions=self._extensions,
            peer_certificates=self._certificates,
        )

    # What we say

    def _send_change_cipher_spec(self) -> None:
        if self._offer.session_id:
            self._flight.send_change_cipher_spec()

    def _send_finished(self) -> None:
        flight = b""
        if self._certificate_requested:
            flight = handshake_message(HandshakeType.CERTIFICATE, Certificate(()).encode())
            self._transcript.add(flight)
        verify_data = self._suite.finished(self._client_secret, self._transcript.digest())
        self._flight.send(flight + handshake_message(HandshakeType.FINISHED, verify_data))
