"""Pairs of hellos as a client would make them, small enough to be read in a failing test."""

import os
from collections.abc import Callable
from dataclasses import replace

from transport.ech import hpke
from transport.ech.config import EchKey, generate_key
from transport.ech.extension import INNER, OuterExtension
from transport.ech.hpke import PrivateKey, Sender
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello, Extension
from transport.tls13.wire import integers, vector

KEY = generate_key("public.example", os.urandom)
GROUPS = Extension(ExtensionType.SUPPORTED_GROUPS, integers(2, 2, (0x001D, 0x0017)))
SHARES = Extension(ExtensionType.KEY_SHARE, vector(2, b"\x00\x1d" + vector(2, bytes(range(32)))))
VERSIONS = Extension(ExtensionType.SUPPORTED_VERSIONS, integers(1, 2, (0x0304,)))
ALPN = Extension(ExtensionType.ALPN, vector(2, vector(1, b"mesh/1")))
OUTER_ALPN = Extension(ExtensionType.ALPN, vector(2, vector(1, b"h2") + vector(1, b"http/1.1")))
COOKIE = Extension(ExtensionType.COOKIE, vector(2, b"cookie"))
COMPRESS = (GROUPS.type, SHARES.type, VERSIONS.type, COOKIE.type)


def server_name(name: str) -> Extension:
    return Extension(ExtensionType.SERVER_NAME, vector(2, b"\0" + vector(2, name.encode())))


def inner_hello(name: str = "secret.internal", *more: Extension) -> ClientHello:
    extensions = (server_name(name), INNER, GROUPS, SHARES, VERSIONS, *more, ALPN)
    return ClientHello(os.urandom(32), b"session", (0x1301, 0x1302), extensions)


def outer_hello(*more: Extension) -> ClientHello:
    extensions = (server_name("public.example"), GROUPS, OUTER_ALPN, SHARES, VERSIONS, *more)
    return ClientHello(os.urandom(32), b"session", (0x1301, 0x1303), extensions)


class Forger:
    """Seals whatever it is told to, for a server to refuse."""

    def __init__(self, key: EchKey = KEY, ephemeral: PrivateKey | None = None) -> None:
        self.key = key
        self.suite = key.config.cipher_suites[0]
        ephemeral = ephemeral or hpke.generate_key(key.config.kem_id, os.urandom)
        self.sender = Sender(key.config.kem_id, key.config.public_key, self.suite, key.config.info, ephemeral)
        self.enc = self.sender.enc

    def seal(
        self,
        encoded: bytes,
        outer: ClientHello,
        place: int | None = None,
        alter: Callable[[OuterExtension], OuterExtension] = lambda extension: extension,
    ) -> ClientHello:
        """`outer` with `encoded` sealed in an extension at `place`, at the end by default; `alter` comes before."""
        extension = alter(OuterExtension(self.suite, self.key.config.config_id, self.enc, bytes(len(encoded) + 16)))
        place = len(outer.extensions) if place is None else place
        around = outer.extensions[:place], outer.extensions[place:]
        aad = replace(outer, extensions=(*around[0], extension.encode(), *around[1])).encode()
        sealed = replace(extension, payload=self.sender.seal(encoded, aad))
        return replace(outer, extensions=(*around[0], sealed.encode(), *around[1]))
