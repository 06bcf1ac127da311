"""A server's handshake (RFC 8446 section 2, appendix A.2; RFC 9849 section 7, in shared mode).

      WAIT_HELLO           ClientHello: send ServerHello to Finished (or, once, HelloRetryRequest)
      WAIT_SECOND_HELLO    ClientHello: send ServerHello to Finished
      WAIT_FINISHED        Finished
    DONE

A hello that comes inside another one takes its place completely: name, protocol, certificate and all keys come from it
alone, and nothing the server does then depends on the outer one.
"""

import hmac
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from transport.ech.confirmation import confirm_retry_request, confirm_server_hello
from transport.ech.server import OpenedHello, open_first
from transport.tls13 import extensions as ext
from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter, unexpected_message
from transport.tls13.config import ClientOffer, ServerChoice, ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import HELLO_RETRY_RANDOM, TLS13, ExtensionType, HandshakeType, SignatureScheme
from transport.tls13.events import EchStatus, HandshakeComplete
from transport.tls13.flight import Flight, RecordedFlight
from transport.tls13.groups import respond
from transport.tls13.key_schedule import SUITES, KeySchedule, Transcript
from transport.tls13.messages import (
    CertificateVerify,
    ClientHello,
    Extension,
    Extensions,
    ServerHello,
    encode_extensions,
    handshake_message,
)
from transport.tls13.negotiation import (
    Parameters,
    check_form,
    check_second,
    choose_parameters,
    choose_scheme,
    read_offer,
)
from transport.tls13.record import BufferPool, RecordReader, RecordWriter
from transport.tls13.signatures import signed_content

FLIGHT_MULTIPLE: Final = 512
"""Bytes: the encrypted flight is padded to a multiple, when ECH is accepted. Protocol and certificate depend on the
hidden name, so their length would tell about it (RFC 9849 section 6.1.3)."""
_VERSION: Final = Extension(ExtensionType.SUPPORTED_VERSIONS, TLS13.to_bytes(2, "big"))


def accept(
    config: ServerConfig,
    *,
    random: Callable[[int], bytes],
    buffers: BufferPool | None = None,
) -> Connection:
    """A connection that waits for a ClientHello.

    `random` is os.urandom or as good. `buffers` are shared by the connections of one event loop; without them the
    connection has its own. How long to wait for the handshake, and how many from one address, is for the caller.
    """
    reader, writer = RecordReader(buffers or BufferPool()), RecordWriter()
    flight = RecordedFlight(reader, writer)
    return Connection(reader, writer, flight, ServerHandshake(config, flight, random))


class _State(Enum):
    WAIT_HELLO = auto()
    WAIT_SECOND_HELLO = auto()
    WAIT_FINISHED = auto()
    DONE = auto()


class ServerHandshake:
    """One handshake, over any Flight."""

    is_client: Final = False

    def __init__(self, config: ServerConfig, flight: Flight, random: Callable[[int], bytes]) -> None:
        self._config: Final = config
        self._flight: Final = flight
        self._random: Final = random
        self._state = _State.WAIT_HELLO
        self._transcript: Final = Transcript()
        self._opened: OpenedHello | None = None
        self._ech = EchStatus.NOT_OFFERED
        self._first: ClientHello | None = None
        """The hello that a HelloRetryRequest answered."""
        self._retried: Parameters | None = None
        self._complete: HandshakeComplete | None = None
        self._schedule: KeySchedule | None = None
        self._client_secret = b""
        self._application_secret = b""

    def start(self) -> None:
        """Nothing: the client begins."""

    def handle(self, kind: int, message: bytes) -> HandshakeComplete | None:
        """Take the client's next message. Raises TlsError."""
        match self._state, kind:
            case _State.WAIT_HELLO, HandshakeType.CLIENT_HELLO:
                self._hello(message)
            case _State.WAIT_SECOND_HELLO, HandshakeType.CLIENT_HELLO:
                self._second_hello(message)
            case _State.WAIT_FINISHED, HandshakeType.FINISHED:
                return self._finished(message[4:])
            case _:
                raise unexpected_message("a handshake message out of turn")
        return None

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """TLS-Exporter (RFC 8446 section 7.5)."""
        if self._schedule is None or self._state is not _State.DONE:
            raise RuntimeError("nothing can be exported before the handshake is complete")
        return self._schedule.export(label, context, length)

    # Hellos

    def _hello(self, message: bytes) -> None:
        body = message[4:]
        hello = ClientHello.parse(body)
        if hello.extension(ExtensionType.ENCRYPTED_CLIENT_HELLO) is not None:
            self._opened = open_first(hello, body, self._config.ech_keys)
            self._ech = EchStatus.REJECTED
            if self._opened is not None:
                self._ech = EchStatus.ACCEPTED
                hello = self._opened.inner
                message = handshake_message(HandshakeType.CLIENT_HELLO, hello.encode())
        check_form(hello)
        parameters = choose_parameters(hello, self._config.cipher_suites, self._config.groups)
        self._transcript.start(SUITES[parameters.suite])
        self._transcript.add(message)
        if parameters.share is None:
            self._ask_again(hello, parameters)
        else:
            self._answer(hello, parameters, parameters.share)

    def _ask_again(self, hello: ClientHello, parameters: Parameters) -> None:
        """HelloRetryRequest (RFC 8446 section 4.1.4). We keep the state, so there is no cookie."""
        self._flight.expect_silence()
        self._first, self._retried = hello, parameters
        extensions: Extensions = (_VERSION, Extension(ExtensionType.KEY_SHARE, parameters.group.to_bytes(2, "big")))
        if self._opened is not None:
            extensions += (Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, bytes(8)),)
        body = ServerHello(HELLO_RETRY_RANDOM, hello.session_id, parameters.suite, extensions).encode()
        self._transcript.restart()
        if self._opened is not None:
            body = confirm_retry_request(body, hello.random, self._transcript.running)
        self._send_hello(body, hello)
        self._state = _State.WAIT_SECOND_HELLO

    def _second_hello(self, message: bytes) -> None:
        body = message[4:]
        hello = ClientHello.parse(body)
        if self._opened is not None:
            hello = self._opened.open_second(hello, body)
            message = handshake_message(HandshakeType.CLIENT_HELLO, hello.encode())
        else:
            open_first(hello, body, ())  # never decrypted now, but held to its form (RFC 9849 section 7)
        first, retried = self._first, self._retried
        if first is None or retried is None:
            raise RuntimeError("a second hello without a first")
        check_form(hello)
        check_second(first, hello, retried.group)
        parameters = choose_parameters(hello, (retried.suite,), (retried.group,))
        if parameters.share is None:
            raise illegal_parameter("the second hello has no share of the group asked for")
        self._transcript.add(message)
        self._answer(hello, parameters, parameters.share)

    # Our flight

    def _answer(self, hello: ClientHello, parameters: Parameters, share: bytes) -> None:
        """ServerHello to Finished, and the keys that go with them."""
        offer = read_offer(hello, self._ech, None if self._opened is None else self._opened.config)
        choice = (self._config.choose or self._config.choose_by_name)(offer)
        scheme = choose_scheme(hello, choice.credential.schemes)
        suite = SUITES[parameters.suite]
        own_share, secret = respond(parameters.group, share)
        extensions = (_VERSION, Extension(ExtensionType.KEY_SHARE, ext.key_share(parameters.group, own_share)))
        body = ServerHello(self._random(32), hello.session_id, suite.id, extensions).encode()
        if self._opened is not None:
            body = confirm_server_hello(body, hello.random, self._transcript.running)
        self._send_hello(body, hello)

        schedule = self._schedule = KeySchedule(suite, secret)
        client, server = schedule.handshake_secrets(self._transcript.digest())
        self._client_secret = client
        self._flight.read_with(suite, client)
        self._flight.write_with(suite, server)
        flight = self._authenticated(offer, choice, scheme)
        finished = self._message(HandshakeType.FINISHED, suite.finished(server, self._transcript.digest()))
        self._flight.send(flight + finished, pad_to=FLIGHT_MULTIPLE if self._opened is not None else 1)
        self._application_secret, server_application = schedule.application_secrets(self._transcript.digest())
        self._flight.write_with(suite, server_application)
        self._complete = HandshakeComplete(
            cipher_suite=suite.id,
            group=parameters.group,
            alpn=choice.alpn,
            server_name=offer.server_name,
            ech=self._ech,
            extensions=hello.extensions,
        )
        self._state = _State.WAIT_FINISHED

    def _send_hello(self, body: bytes, hello: ClientHello) -> None:
        self._flight.send(self._message(HandshakeType.SERVER_HELLO, body))
        if hello.session_id:
            self._flight.send_change_cipher_spec()

    def _authenticated(self, offer: ClientOffer, choice: ServerChoice, scheme: SignatureScheme) -> bytes:
        """EncryptedExtensions, Certificate and CertificateVerify."""
        extensions = self._message(
            HandshakeType.ENCRYPTED_EXTENSIONS, encode_extensions(self._encrypted_extensions(offer, choice))
        )
        certificate = self._message(HandshakeType.CERTIFICATE, choice.credential.message)
        signature = choice.credential.sign(scheme, signed_content(self._transcript.digest()))
        verify = self._message(HandshakeType.CERTIFICATE_VERIFY, CertificateVerify(scheme, signature).encode())
        return extensions + certificate + verify

    def _encrypted_extensions(self, offer: ClientOffer, choice: ServerChoice) -> Extensions:
        extensions = choice.extensions
        if choice.alpn is not None:
            extensions = (Extension(ExtensionType.ALPN, ext.alpn((choice.alpn,))), *extensions)
        retry = self._config.retry_configs if self._ech is EchStatus.REJECTED else None
        if retry is not None:  # RFC 9849 section 7.1: only if the client offered ECH and we could not open it
            extensions = (*extensions, Extension(ExtensionType.ENCRYPTED_CLIENT_HELLO, retry))
        offered = {extension.type for extension in offer.extensions}
        if not all(extension.type in offered for extension in extensions):
            raise TlsError(AlertDescription.INTERNAL_ERROR, "an answer to an extension that was not offered")
        return extensions

    def _message(self, kind: HandshakeType, body: bytes) -> bytes:
        message = handshake_message(kind, body)
        self._transcript.add(message)
        return message

    # The client's end of the handshake

    def _finished(self, body: bytes) -> HandshakeComplete:
        complete = self._complete
        if complete is None:
            raise RuntimeError("Finished before keys")
        suite = SUITES[complete.cipher_suite]
        if len(body) != suite.hash_length:
            raise TlsError(AlertDescription.DECODE_ERROR, "Finished has not the length of the hash")
        if not hmac.compare_digest(body, suite.finished(self._client_secret, self._transcript.digest())):
            raise TlsError(AlertDescription.DECRYPT_ERROR, "the client's Finished is wrong")
        self._flight.read_with(suite, self._application_secret)
        self._client_secret = self._application_secret = b""
        self._state = _State.DONE
        return complete
