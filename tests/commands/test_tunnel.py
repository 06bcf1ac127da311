"""`aegis tunnel` as an operator uses it: real files, a real control plane, real handshakes."""

import asyncio
import base64
import json
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from aegis import main
from commands.tunnel.probe import Probed
from commands.tunnel.view import show_probe
from tests.controlplane.plane import Plane, running
from tests.controlplane.tunnels.test_distribution import DOCUMENTS, Sidecar, eventually_confirmed
from tests.fakes.mesh import ALICE, PKI, PUBLIC_NAME, SERVICE, Mesh, ech_key
from transport.ech.config import EchKey, encode_config_list, parse_config_list
from transport.ech.pem import parse_pem
from transport.mux.frames import Type, frame
from transport.noise.suite import StaticKey
from transport.tls13.alerts import TlsError
from transport.tls13.config import ServerConfig
from transport.tls13.connection import Connection
from transport.tls13.constants import NamedGroup
from transport.tls13.server import accept
from transport.tunnel.errors import RefusedError


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["tunnel", *arguments], env=environment)


# --- keygen ---


def test_keygen_writes_private_files_and_prints_what_is_public(tmp_path: Path) -> None:
    result = run("keygen", str(tmp_path / "keys"), "--public-name", "mesh.example", "--json")

    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    noise, ech = tmp_path / "keys/noise.key", tmp_path / "keys/ech.pem"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (noise, ech, tmp_path / "keys")] == [0o600, 0o600, 0o700]
    private = X25519PrivateKey.from_private_bytes(noise.read_bytes())
    assert shown["static_key"] == base64.b64encode(private.public_key().public_bytes_raw()).decode()
    (key,) = parse_pem(ech.read_bytes()).keys
    assert shown["ech_configs"] == base64.b64encode(encode_config_list([key.config])).decode()
    assert key.config.public_name == "mesh.example"
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["ech.pem", "noise.key"]


def test_keygen_never_prints_a_private_key(tmp_path: Path) -> None:
    result = run("keygen", str(tmp_path), "--public-name", "mesh.example")

    private = (tmp_path / "noise.key").read_bytes()
    pkcs8 = b"".join((tmp_path / "ech.pem").read_bytes().split(b"-----")[2].split()).decode()
    for secret in (private.hex(), base64.b64encode(private).decode(), pkcs8[-43:]):
        assert secret not in result.output


def test_keygen_never_writes_over_a_key(tmp_path: Path) -> None:
    run("keygen", str(tmp_path))
    before = (tmp_path / "noise.key").read_bytes()

    result = run("keygen", str(tmp_path), "--public-name", "mesh.example")

    assert result.exit_code == 1
    assert "never written over" in result.output
    assert before == (tmp_path / "noise.key").read_bytes()
    assert not (tmp_path / "ech.pem").exists()


@pytest.mark.parametrize("name", ["10.0.0.1", "not a name", ""])
def test_keygen_refuses_a_public_name_that_clients_would_pass_over(tmp_path: Path, name: str) -> None:
    result = run("keygen", str(tmp_path), "--public-name", name)

    assert result.exit_code == 1
    assert not list(tmp_path.iterdir())


# --- show, rotate, revoke ---


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
def aegis(plane: Plane, tmp_path: Path) -> Callable[..., Any]:
    plane.identity("operator/alice").write(tmp_path / "operator")
    environment = {"AEGIS_POLICY_SERVER": plane.address, "AEGIS_POLICY_IDENTITY": str(tmp_path / "operator")}

    async def invoke(*arguments: str) -> Result:
        return await asyncio.to_thread(run, *arguments, **environment)

    return invoke


async def test_show_before_there_are_keys_says_what_to_do(aegis: Callable[..., Any]) -> None:
    result = await aegis("show")

    assert result.exit_code == 0
    assert "push a TunnelPolicy" in result.output


async def test_rotate_waits_for_the_sidecars_and_show_names_them(plane: Plane, aegis: Callable[..., Any]) -> None:
    from aegispb.v1 import tunnel_pb2_grpc

    await plane.push(DOCUMENTS)
    llm = Sidecar(plane, "llm")
    await llm.sync()
    admin = tunnel_pb2_grpc.TunnelAdminStub(plane.channel(plane.identity("operator/bob")))
    await eventually_confirmed(admin)

    begun = await aegis("rotate", "--ech", "--static", "spiffe://test.local/sidecar/bot", "--json")
    shown = await aegis("show")
    again = await aegis("rotate", "--ech")

    assert [key["state"] for key in json.loads(begun.output)["ech"]] == ["ACTIVE", "ANNOUNCED"]
    assert shown.exit_code == 1
    assert "waiting for spiffe://test.local/sidecar/llm (pod)" in shown.output
    assert again.exit_code == 1
    assert "not acknowledged yet by 1 sidecars" in again.output
    forced = await aegis("rotate", "--force", "--json")
    assert [key["state"] for key in json.loads(forced.output)["ech"]] == ["RETIRING", "ACTIVE"]


async def test_revoke_changes_the_static_at_once(plane: Plane, aegis: Callable[..., Any]) -> None:
    await plane.push(DOCUMENTS)
    bot = "spiffe://test.local/sidecar/bot"
    before = json.loads((await aegis("show", "--json")).output)

    after = json.loads((await aegis("revoke", bot, "--json")).output)
    unknown = await aegis("revoke", "spiffe://test.local/sidecar/nobody")

    def static(answer: dict[str, Any]) -> str:
        return next(str(each["current"]) for each in answer["statics"] if each["spiffe_id"] == bot)

    assert static(before) != static(after)
    assert after["revoked"] == 1
    assert (unknown.exit_code, "no Peer document names" in unknown.output) == (1, True)


async def test_what_is_shown_is_public(plane: Plane, aegis: Callable[..., Any]) -> None:
    await plane.push(DOCUMENTS)
    llm = Sidecar(plane, "llm")
    keys = (await llm.sync()).keys
    assert keys is not None
    assert keys.ech is not None

    output = (await aegis("show", "--json")).output + (await aegis("show")).output
    configs = (await aegis("show", "--ech-configs")).output

    for secret in (keys.static.private, keys.ech.active.private_bytes):
        assert base64.b64encode(secret).decode() not in output
        assert secret.hex() not in output
    assert parse_config_list(base64.b64decode(configs)) == (keys.ech.active.key.config,)


async def test_only_operators_may_touch_keys(plane: Plane, tmp_path: Path) -> None:
    plane.identity("sidecar/llm").write(tmp_path / "sidecar")
    environment = {"AEGIS_POLICY_SERVER": plane.address, "AEGIS_POLICY_IDENTITY": str(tmp_path / "sidecar")}

    result = await asyncio.to_thread(run, "rotate", "--ech", **environment)

    assert result.exit_code == 1
    assert "is not an operator" in result.output


def test_rotate_wants_to_be_told_what() -> None:
    assert run("rotate").exit_code == 2


# --- probe ---


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on loopback that gives every connection to `answer`, one after the other."""

    def serve() -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            with connected, suppress(OSError, TlsError, RefusedError):
                connected.settimeout(10)
                answer(connected)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def drive(connected: socket.socket, connection: Connection, advance: Callable[[], object]) -> None:
    """Until the client goes away."""
    try:
        while True:
            advance()
            connected.sendall(connection.data_to_send())
            count = connected.recv_into(connection.get_buffer())
            if count == 0:
                return
            connection.buffer_updated(count)
    finally:
        connected.sendall(connection.data_to_send())


def tls_server(key: EchKey, **settings: Any) -> Callable[[socket.socket], None]:
    config = ServerConfig((PKI.credential(PUBLIC_NAME, SERVICE),), ech_keys=(key,), **settings)

    def answer(connected: socket.socket) -> None:
        connection = accept(config, random=os.urandom)
        drive(connected, connection, connection.next_event)

    return answer


@pytest.fixture
def ca(tmp_path: Path) -> str:
    (tmp_path / "ca.pem").write_text(PKI.root_pem)
    return str(tmp_path / "ca.pem")


def b64(key: EchKey) -> str:
    return base64.b64encode(encode_config_list([key.config])).decode()


def test_probe_tells_that_ech_was_accepted(ca: str) -> None:
    key = ech_key()
    with serving(tls_server(key)) as address:
        result = run("probe", address, "--service", SERVICE, "--ech", b64(key), "--ca", ca, "--json")

    (attempt,) = json.loads(result.output)
    assert (result.exit_code, attempt["succeeded"], attempt["ech"]) == (0, True, "accepted")
    assert (attempt["group"], attempt["cipher_suite"]) == ("X25519MLKEM768", "AES_128_GCM_SHA256")
    assert attempt["retry_configs"] is None
    assert 0 < attempt["handshake_ms"] < 10_000


def test_probe_comes_again_with_the_retry_configs_of_the_server(ca: str) -> None:
    stale, fresh = ech_key(), ech_key()
    with serving(tls_server(fresh)) as address:
        result = run("probe", address, "--service", SERVICE, "--ech", b64(stale), "--ca", ca, "--json")
        once = run("probe", address, "--service", SERVICE, "--ech", b64(stale), "--ca", ca, "--no-retry", "--json")

    first, second = json.loads(result.output)
    assert (first["succeeded"], first["ech"], first["retry_configs"]) == (False, "rejected", b64(fresh))
    assert (second["succeeded"], second["ech"], result.exit_code) == (True, "accepted", 0)
    assert (len(json.loads(once.output)), once.exit_code) == (1, 1)


def test_probe_does_not_take_a_server_that_is_not_the_public_name_at_its_word(ca: str) -> None:
    stale = ech_key(public_name="other.example")
    with serving(tls_server(ech_key())) as address:
        result = run("probe", address, "--service", SERVICE, "--ech", b64(stale), "--ca", ca, "--json")

    (attempt,) = json.loads(result.output)
    assert (result.exit_code, attempt["succeeded"], attempt["retry_configs"]) == (1, False, None)


def test_probe_can_insist_on_post_quantum_key_exchange(ca: str) -> None:
    key = ech_key()
    with serving(tls_server(key, groups=(NamedGroup.X25519,))) as address:
        strict = run("probe", address, "--service", SERVICE, "--ech", b64(key), "--ca", ca, "--min-pq", "--json")
        lax = run("probe", address, "--service", SERVICE, "--ech", b64(key), "--ca", ca, "--json")

    assert strict.exit_code == 1
    assert json.loads(lax.output)[0]["group"] == "X25519"


def test_probe_shakes_hands_to_the_end_of_a_tunnel(ca: str, tmp_path: Path) -> None:
    mesh = Mesh()
    made = json.loads(run("keygen", str(tmp_path / "keys"), "--json").output)
    mesh.allowed[base64.b64decode(made["static_key"])] = ALICE

    def answer(connected: socket.socket) -> None:
        accepting = mesh.accept()

        def advance() -> None:
            if accepting.advance() is not None and not is_silent:
                accepting.connection.send(frame(Type.PING, 0, 0, b"admitted"))

        drive(connected, accepting.connection, advance)

    is_silent = False
    static = base64.b64encode(mesh.bob.public).decode()
    options = ("--service", SERVICE, "--ca", ca, "--noise-key", made["noise_key"], "--min-pq", "--json")
    with serving(answer) as address:
        hidden = run("probe", address, "--ech", b64(mesh.key), "--peer-static", static, *options)
        plain = run("probe", address, "--public-name", PUBLIC_NAME, "--peer-static", static, *options)
        other = base64.b64encode(StaticKey.of(X25519PrivateKey.generate()).public).decode()
        wrong = run("probe", address, "--ech", b64(mesh.key), "--peer-static", other, *options)
        is_silent = True
        unheard = run("probe", address, "--ech", b64(mesh.key), "--peer-static", static, *options, "--timeout", "0.3")
        mesh.allowed.clear()
        unknown = run("probe", address, "--ech", b64(mesh.key), "--peer-static", static, *options)

    assert (json.loads(hidden.output)[0]["tunnel"], hidden.exit_code) == ("ech", 0), hidden.output
    assert (json.loads(plain.output)[0]["tunnel"], plain.exit_code) == ("no_ech", 0), plain.output
    assert wrong.exit_code == 1
    assert (unheard.exit_code, "timed out" in unheard.output) == (1, True), "silence is no admission"
    assert (unknown.exit_code, "access_denied" in unknown.output) == (1, True)


def test_probe_of_a_server_with_an_impossible_key_says_so(ca: str) -> None:
    """Its retry configurations have a key of the right length that is no point."""
    stale, fresh = ech_key(), ech_key()
    useless = replace(fresh.config, public_key=bytes(32))
    with serving(tls_server(fresh, ech_retry=(useless,))) as address:
        result = run("probe", address, "--service", SERVICE, "--ech", b64(stale), "--ca", ca, "--json")

    assert result.exit_code == 1
    assert "the public key of the ECH configuration is none" in json.loads(result.output)[1]["detail"]


def test_what_a_server_calls_itself_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_probe([Probed(True, "accepted", 0.0, 0.0, certificate="CN=\x1b[2Jnobody")])

    shown = capsys.readouterr().out
    assert "nobody" in shown
    assert "\x1b" not in shown


def test_probe_of_nothing_says_so(ca: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    result = run("probe", f"127.0.0.1:{port}", "--service", SERVICE, "--ca", ca)

    assert result.exit_code == 1
    assert "no connection" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere", "--service", "x"),
        ("127.0.0.1:99999", "--service", "x"),
        ("127.0.0.1:\u00b2", "--service", "x"),
        ("127.0.0.1:1", "--service", "b\u00fccher.example"),
        ("127.0.0.1:1", "--service", "x", "--ech", "!!!"),
        ("127.0.0.1:1", "--service", "x", "--peer-static", "AA=="),
    ],
)
def test_probe_names_the_option_that_cannot_be(arguments: tuple[str, ...]) -> None:
    assert run("probe", *arguments).exit_code == 2


# --- status ---


def page_server(status: bytes, body: bytes) -> Callable[[socket.socket], None]:
    def answer(connected: socket.socket) -> None:
        connected.recv(4096)
        connected.sendall(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))

    return answer


def test_status_shows_the_page_of_a_sidecar() -> None:
    with serving(page_server(b"200 OK", b'{"dialled": {"llm": 2}, "accepted": 0}')) as address:
        result = run("status", "--admin", address)

    assert (result.exit_code, "llm" in result.output) == (0, True)


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (b"404 Not Found", b"no such page\n", "has no page /tunnels (status 404)"),
        (b"200 OK", b"<html>", "is no sidecar"),
        (b"200 OK", b"[1]", "is no sidecar"),
    ],
)
def test_status_of_something_else_says_so(status: bytes, body: bytes, complaint: str) -> None:
    with serving(page_server(status, body)) as address:
        result = run("status", "--admin", address)

    assert (result.exit_code, complaint in result.output) == (1, True), result.output


@pytest.mark.parametrize("address", ["localhost", ":1", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:\u00b2"])
def test_status_wants_a_host_and_a_port(address: str) -> None:
    result = run("status", "--admin", address)

    assert (result.exit_code, "expected HOST:PORT" in result.output) == (1, True), result.output
