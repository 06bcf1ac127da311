"""The engine as BoGo, BoringSSL's conformance runner, wants to drive it: connect, shake hands, echo bytes inverted.

Its protocol is BoringSSL's ssl/test/PORTING.md. A flag that is not known here, or that asks for what the engine does
not have (TLS 1.2, resumption, client certificates), ends with code 89: the runner counts the test as not implemented.
"""

import base64
import os
import socket
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

UNIMPLEMENTED = 89
IGNORED = {
    "-async", "-implicit-handshake", "-no-tls1", "-no-tls11", "-no-tls12", "-no-ticket", "-expect-msg-callback",
    "-expect-no-session-id", "-expect-session-miss", "-handoff", "-use-custom-verify-callback", "-permute-extensions",
    "-no-check-client-certificate-type", "-enforce-rsa-key-usage", "-verify-peer", "-use-early-callback",
    "-expect-no-session", "-no-op-extra-handshake", "-expect-no-ech-name-override", "-peek-then-read",
    "-expect-extended-master-secret",
}  # fmt: skip
SWITCHES = {
    "-server", "-check-close-notify", "-shim-writes-first", "-shim-shuts-down", "-expect-ech-accept",
    "-enable-ech-grease", "-expect-hrr", "-expect-no-hrr", "-use-export-context", "-is-handshaker-supported",
    "-expect-no-ech-retry-configs", "-decline-alpn", "-verify-fail",
}  # fmt: skip
VALUES = {
    "-port", "-key-file", "-cert-file", "-advertise-alpn", "-select-alpn", "-expect-alpn", "-export-keying-material",
    "-export-label", "-export-context", "-host-name", "-expect-server-name", "-max-version", "-min-version",
    "-expect-version", "-expect-curve-id", "-expect-ech-retry-configs", "-ech-config-list", "-expect-cipher-aes",
    "-expect-cipher-no-aes", "-expect-advertised-alpn", "-expect-peer-signature-algorithm", "-read-size", "-shim-id",
}  # fmt: skip
LISTS = {"-curves", "-ech-server-config", "-ech-server-key", "-ech-is-retry-config"}
OURS = (0x001D, 0x0017, 0x0018)  # X25519, P-256, P-384; BoGo has no ML-KEM


@dataclass
class Flags:
    switches: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)


def parse(arguments: list[str]) -> Flags:
    """Exits with 89 for what we do not know."""
    flags, rest = Flags(), iter(arguments)
    for name in rest:
        if name in SWITCHES:
            flags.switches.add(name)
        elif name in VALUES:
            flags.values[name] = next(rest)
        elif name in LISTS:
            flags.lists.setdefault(name, []).append(next(rest))
        elif name not in IGNORED:
            sys.exit(UNIMPLEMENTED)
    is_server = "-server" in flags.switches
    if (
        flags.values.get("-max-version", "772") not in ("772", "1.3")
        or (is_server and "-verify-peer" in arguments)
        or is_server is not ("-cert-file" in flags.values)  # a client with a certificate
        or any(int(group) not in OURS for group in flags.lists.get("-curves", []))
    ):
        sys.exit(UNIMPLEMENTED)
    return flags


FLAGS = parse(sys.argv[1:])
if "-is-handshaker-supported" in FLAGS.switches:
    sys.stdout.write("No\n")
    sys.exit(0)

from cryptography import x509  # noqa: E402 most tests end above, and importing takes a while
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: E402
from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: E402

from transport.ech.config import EchConfigError, EchKey, choose_config, parse_config_list  # noqa: E402
from transport.tls13 import client, server  # noqa: E402
from transport.tls13.alerts import AlertDescription, EchRejectedError, PeerAlertError, TlsError  # noqa: E402
from transport.tls13.certificates import Credential, _require_signing  # noqa: E402
from transport.tls13.client import ClientHandshake  # noqa: E402
from transport.tls13.config import ClientConfig, ServerConfig  # noqa: E402
from transport.tls13.connection import Connection  # noqa: E402
from transport.tls13.events import ApplicationData, CloseNotify, EchStatus, HandshakeComplete  # noqa: E402


class AnyLeaf:
    """BoGo does not verify chains unless a test says so."""

    def verify(self, chain: tuple[bytes, ...], name: str, now: datetime) -> Any:
        if "-verify-fail" in FLAGS.switches:
            by_callback = "-use-custom-verify-callback" in sys.argv
            alert = AlertDescription.CERTIFICATE_UNKNOWN if by_callback else AlertDescription.HANDSHAKE_FAILURE
            raise TlsError(alert, "as the test asks for")
        try:
            leaf = x509.load_der_x509_certificate(chain[0])
            _require_signing(leaf)
            return leaf.public_key()
        except ValueError:
            raise TlsError(AlertDescription.DECODE_ERROR, "no certificate") from None


def groups() -> tuple[int, ...]:
    return tuple(int(group) for group in FLAGS.lists.get("-curves", [])) or OURS


def protocols(wire: str) -> tuple[bytes, ...]:
    found, data = [], wire.encode("latin-1")
    while data:
        found.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return tuple(found)


def client_side() -> Connection:
    configs = ()
    if "-ech-config-list" in FLAGS.values:
        try:
            configs = parse_config_list(base64.b64decode(FLAGS.values["-ech-config-list"]))
        except EchConfigError as error:
            fail(str(error))
    config = ClientConfig(
        FLAGS.values.get("-host-name", "test.example"),
        AnyLeaf(),  # type: ignore[arg-type] # what a Trust does, without trust
        ech=choose_config(configs),
        grease_ech="-enable-ech-grease" in FLAGS.switches,
        alpn=protocols(FLAGS.values.get("-advertise-alpn", "")),
        groups=groups(),
    )
    return client.connect(config, random=os.urandom, now=datetime.now(UTC))  # noqa: TID251 certificates are not judged


def server_side() -> Connection:
    keys, retry = [], []
    configs, privates, retries = (
        FLAGS.lists.get(name, []) for name in ("-ech-server-config", "-ech-server-key", "-ech-is-retry-config")
    )
    for encoded, private, is_retry in zip(configs, privates, retries, strict=True):
        raw = base64.b64decode(encoded)
        (config,) = parse_config_list(len(raw).to_bytes(2, "big") + raw) or (None,)
        if config is None or config.kem_id != 0x20:
            sys.exit(UNIMPLEMENTED)
        keys.append(EchKey(config, X25519PrivateKey.from_private_bytes(base64.b64decode(private))))
        if is_retry == "1":
            retry.append(config)
    chain = x509.load_pem_x509_certificates(Path(FLAGS.values["-cert-file"]).read_bytes())
    key = load_pem_private_key(Path(FLAGS.values["-key-file"]).read_bytes(), None)
    try:
        loaded = Credential.of(chain, key)  # type: ignore[arg-type] # it says so itself
    except ValueError:
        sys.exit(UNIMPLEMENTED)
    names = frozenset(entry.config.public_name.lower() for entry in keys)
    credential = Credential(names, loaded.message, loaded.schemes, loaded.key)
    selected = FLAGS.values.get("-select-alpn", "").encode("latin-1")
    config = ServerConfig(
        (credential,),
        alpn=(selected,) if selected else (),
        groups=groups(),
        ech_keys=tuple(keys),
        ech_retry=tuple(retry),
    )
    return server.accept(config, random=os.urandom)


def fail(why: str) -> None:
    sys.stderr.write(why + "\n")
    sys.exit(1)


def expect(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        fail(f"expected {what} {wanted!r}, got {found!r}")


def check(connection: Connection, complete: HandshakeComplete) -> None:
    """What the test expects of the handshake."""
    values, switches = FLAGS.values, FLAGS.switches
    if "-expect-alpn" in values:
        expect("ALPN", values["-expect-alpn"].encode("latin-1"), complete.alpn or b"")
    if "-expect-server-name" in values:
        expect("name", values["-expect-server-name"], complete.server_name)
    if "-expect-curve-id" in values:
        expect("group", int(values["-expect-curve-id"]), complete.group)
    if "-expect-version" in values:
        expect("version", int(values["-expect-version"]), 0x0304)
    if "-expect-ech-accept" in switches:
        expect("ECH", EchStatus.ACCEPTED, complete.ech)
    elif complete.ech is EchStatus.ACCEPTED:
        fail("ECH was accepted")
    handshake: Any = connection._handshake
    retried = handshake._retry_suite if isinstance(handshake, ClientHandshake) else handshake._retried
    if "-expect-hrr" in switches and retried is None:
        fail("expected a HelloRetryRequest")
    if "-expect-no-hrr" in switches and retried is not None:
        fail("expected no HelloRetryRequest")


class Shim:
    """One connection to the runner."""

    def __init__(self) -> None:
        self.connection = server_side() if "-server" in FLAGS.switches else client_side()
        port = int(FLAGS.values["-port"])
        try:
            self.socket = socket.create_connection(("::1", port))
        except OSError:
            self.socket = socket.create_connection(("127.0.0.1", port))
        if "-shim-id" in FLAGS.values:
            self.socket.sendall(int(FLAGS.values["-shim-id"]).to_bytes(8, "little"))
        self.closed = False

    def flush(self) -> None:
        if data := self.connection.data_to_send():
            self.socket.sendall(data)

    def run(self) -> None:
        self.flush()
        while not self.closed and (data := self.socket.recv(1 << 16)):
            view = memoryview(data)
            while view:
                buffer = self.connection.get_buffer()
                count = min(len(buffer), len(view))
                buffer[:count] = view[:count]
                self.connection.buffer_updated(count)
                view = view[count:]
                while (event := self.connection.next_event()) is not None:
                    self.take(event)
            self.flush()
        if self.connection.handshake is None:
            fail("end of stream during the handshake")
        if not self.closed and "-check-close-notify" in FLAGS.switches:
            fail("end of stream without close_notify")

    def take(self, event: object) -> None:
        connection = self.connection
        match event:
            case HandshakeComplete():
                check(connection, event)
                if length := int(FLAGS.values.get("-export-keying-material", "0")):
                    label, context = FLAGS.values.get("-export-label", ""), FLAGS.values.get("-export-context", "")
                    connection.send(connection.export(label.encode("latin-1"), context.encode("latin-1"), length))
                if "-shim-writes-first" in FLAGS.switches:
                    connection.send(b"hello")
                if "-shim-shuts-down" in FLAGS.switches:
                    connection.close()
            case ApplicationData(data=data):
                connection.send(bytes(byte ^ 0xFF for byte in data))
            case CloseNotify():
                self.closed = True
                connection.close()


def main() -> None:
    try:
        shim = Shim()
    except ValueError as error:
        fail(f"configuration: {error}")
        return
    try:
        shim.run()
    except EchRejectedError as error:
        shim.flush()
        if "-expect-ech-retry-configs" in FLAGS.values:
            expect("retry configs", base64.b64decode(FLAGS.values["-expect-ech-retry-configs"]), error.retry_configs)
        if "-expect-no-ech-retry-configs" in FLAGS.switches:
            expect("retry configs", None, error.retry_configs)
        shim.socket.shutdown(socket.SHUT_WR)
        shim.socket.recv(1 << 16)
        fail(":ECH_REJECTED:")
    except TlsError as error:
        if error.alert == AlertDescription.PROTOCOL_VERSION:  # a runner of this test that has TLS 1.2 only
            sys.exit(UNIMPLEMENTED)
        try:
            shim.flush()
            shim.socket.shutdown(socket.SHUT_WR)
            while shim.socket.recv(1 << 16):
                pass
        except OSError:
            pass
        remote = ":PEER_ALERT:" if isinstance(error, PeerAlertError) else ""
        fail(f"{remote} {error}")
    except (BrokenPipeError, ConnectionResetError) as error:
        fail(f"socket: {error}")


main()
