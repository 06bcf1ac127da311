"""A DNS server over HTTPS that knows one host, with its ECH keys in an HTTPS record (RFC 8484, RFC 9460)."""

import ssl
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.transport.interop.lab import Chain, Lab
from transport.tls13.wire import vector

A: Final = 1
HTTPS: Final = 65
ALPN_KEY: Final = 1
ECH_KEY: Final = 5
CONTENT_TYPE: Final = "application/dns-message"


@dataclass(frozen=True)
class Zone:
    """What is known about 127.0.0.1."""

    host: str
    port: int
    alpn: str
    config_list: bytes
    """Empty: no `ech` in the record."""

    def answer(self, query: bytes) -> bytes:
        """A DNS message of one question, and of one answer if there is one."""
        end = query.index(b"\0", 12) + 1
        name, kind = question(query)
        record = b""
        if kind == A and name == self.host:
            record = bytes([127, 0, 0, 1])
        elif kind == HTTPS and name == f"_{self.port}._https.{self.host}":
            record = self._https()
        head = query[:2] + b"\x81\x80\0\x01" + bool(record).to_bytes(2) + bytes(4)
        answer = b"\xc0\x0c" + kind.to_bytes(2) + b"\0\x01" + (60).to_bytes(4) + vector(2, record) if record else b""
        return head + query[12 : end + 4] + answer

    def _https(self) -> bytes:
        # The target is the host itself and not ".": the owner name has the port in it, and Chromium would pass it over.
        target = b"".join(vector(1, label.encode()) for label in self.host.split(".")) + b"\0"
        parameters = ALPN_KEY.to_bytes(2) + vector(2, vector(1, self.alpn.encode()))
        if self.config_list:
            parameters += ECH_KEY.to_bytes(2) + vector(2, self.config_list)
        return b"\0\x01" + target + parameters


@contextmanager
def serving(zone: Zone, lab: Lab) -> Iterator[int]:
    """The port of https://localhost, where /dns-query answers."""
    has_keys = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            encoded = parse_qs(urlsplit(self.path).query)["dns"][0]
            self._answer(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, query: bytes) -> None:
            # Chromium waits for the HTTPS record some milliseconds and then goes without ECH, in the clear. On a busy
            # machine that is too short, so the address comes last.
            name, kind = question(query)
            if kind != HTTPS and name == zone.host:
                has_keys.wait(10)
            body = zone.answer(query)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # it asks more than it waits for
                self.wfile.write(body)
            if kind == HTTPS:
                has_keys.set()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = _context(lab, lab.localhost).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _context(lab: Lab, chain: Chain) -> ssl.SSLContext:
    file = lab.folder / "localhost.pem"
    file.write_text(chain.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def question(query: bytes) -> tuple[str, int]:
    """Name and type that are asked for."""
    end = query.index(b"\0", 12) + 1
    return _labels(query[12:end]), int.from_bytes(query[end : end + 2])


def _labels(name: bytes) -> str:
    labels, at = [], 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]].decode())
        at += 1 + name[at]
    return ".".join(labels).lower()
