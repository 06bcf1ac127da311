"""A client that says what it likes: hellos to be altered, in the clear or inside ECH, first or second."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from tests.transport.ech.hellos import KEY, Forger
from transport.ech.extension import INNER
from transport.tls13 import extensions as ext
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.certificates import Credential
from transport.tls13.config import ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import ContentType, ExtensionType, HandshakeType, NamedGroup
from transport.tls13.groups import generate
from transport.tls13.messages import ClientHello, Extension, ServerHello, handshake_message
from transport.tls13.server import accept
from transport.tls13.wire import vector

NAME = "secret.internal"
Alter = Callable[[ClientHello], ClientHello | bytes]
"""Another hello, or a body that is none."""


class Place(Enum):
    """Where the hello that is altered stands. Every rule for a hello holds in all four."""

    FIRST = "first hello"
    SECOND = "second hello"
    FIRST_INSIDE = "first hello inside ech"
    SECOND_INSIDE = "second hello inside ech"

    @property
    def is_second(self) -> bool:
        return self in (Place.SECOND, Place.SECOND_INSIDE)

    @property
    def is_inside(self) -> bool:
        return self in (Place.FIRST_INSIDE, Place.SECOND_INSIDE)


@dataclass(frozen=True)
class Reaction:
    """What the server made of it."""

    alert: AlertDescription | None
    """None: it went on with the handshake."""
    sent: bytes
    """All that it sent."""


def base_hello(group: int = NamedGroup.X25519) -> ClientHello:
    """What every server of ours takes, with one share of `group`."""
    extensions = (
        Extension(ExtensionType.SERVER_NAME, ext.server_name(NAME)),
        Extension(ExtensionType.SUPPORTED_GROUPS, ext.code_points((NamedGroup.X25519, NamedGroup.SECP384R1))),
        Extension(ExtensionType.SIGNATURE_ALGORITHMS, ext.code_points((0x0403, 0x0804))),
        Extension(ExtensionType.SUPPORTED_VERSIONS, ext.supported_versions()),
        Extension(ExtensionType.KEY_SHARE, ext.key_shares(((group, generate(group).public),))),
        Extension(ExtensionType.ALPN, ext.alpn((b"mesh/1",))),
    )
    return ClientHello(bytes(range(32)), bytes(32), (0x1301, 0x1303), extensions)


def server(credential: Credential, *, retries: bool) -> Connection:
    """One that asks for another group in a HelloRetryRequest, or does not."""
    groups = (NamedGroup.SECP384R1,) if retries else (NamedGroup.X25519, NamedGroup.SECP384R1)
    config = ServerConfig((credential,), alpn=(b"mesh/1",), groups=groups, ech_keys=(KEY,))
    return accept(config, random=os.urandom)


class HostileClient:
    """Sends one altered hello, at `place`, to a server of ours."""

    def __init__(self, connection: Connection, place: Place) -> None:
        self._server = connection
        self._place = place
        self._forger = Forger()
        self._sent = b""

    def send(self, alter: Alter) -> Reaction:
        """Everything up to the altered hello is as it should be."""
        try:
            if self._place.is_second:
                self._deliver(base_hello())
                self._forger.enc = b""
                assert self._was_asked_again()
            self._deliver(base_hello(self._group), alter)
        except TlsError as error:
            self._sent += bytes(self._server.data_to_send())
            return Reaction(AlertDescription(error.alert), self._sent)
        return Reaction(None, self._sent)

    @property
    def _group(self) -> NamedGroup:
        return NamedGroup.SECP384R1 if self._place.is_second else NamedGroup.X25519

    def _deliver(self, hello: ClientHello, alter: Alter = lambda hello: hello) -> None:
        if not self._place.is_inside:
            altered = alter(hello)
            self._receive(altered if isinstance(altered, bytes) else altered.encode())
            return
        extensions = (INNER, *hello.extensions)
        altered = alter(replace(hello, session_id=b"", extensions=extensions))
        encoded = altered if isinstance(altered, bytes) else altered.encode()
        public = Extension(ExtensionType.SERVER_NAME, ext.server_name("public.example"))
        outer = replace(hello, random=bytes(32), extensions=(public, *hello.extensions[1:]))
        self._receive(self._forger.seal(encoded, outer).encode())

    def _receive(self, body: bytes) -> None:
        message = handshake_message(HandshakeType.CLIENT_HELLO, body)
        for at in range(0, len(message), 1 << 14):
            self._server.receive(bytes([ContentType.HANDSHAKE]) + b"\3\3" + vector(2, message[at : at + (1 << 14)]))
        self._sent += bytes(self._server.data_to_send())

    def _was_asked_again(self) -> bool:
        return ServerHello.parse(self._sent[9 : 5 + int.from_bytes(self._sent[3:5])]).is_retry_request


def changed(kind: ExtensionType, data: bytes) -> Alter:
    """The extension `kind` has other data."""

    def alter(hello: ClientHello) -> ClientHello:
        entries = (replace(e, data=data) if e.type == kind else e for e in hello.extensions)
        return replace(hello, extensions=tuple(entries))

    return alter


def without(kind: ExtensionType) -> Alter:
    """The extension `kind` is missing."""
    return lambda hello: replace(hello, extensions=tuple(e for e in hello.extensions if e.type != kind))


def added(*more: Extension, first: bool = False) -> Alter:
    """More extensions, at one end."""
    return lambda hello: replace(hello, extensions=(*more, *hello.extensions) if first else (*hello.extensions, *more))
