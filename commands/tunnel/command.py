"""The subcommands of `aegis tunnel`. No private key is ever printed."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from commands.policy.connection import Server, admin, server_options
from commands.printed import print_json

NOT_WELL: Final = 1
"""Exit status."""
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_WAIT: Final = 0.5
"""Seconds between two looks at who has acknowledged."""


@click.group("tunnel")
def command() -> None:
    """Make, rotate, revoke and show the keys of tunnels, and try a tunnel."""


@command.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--public-name", metavar="NAME", help="Also make an ECH key, with this name in the clear.")
@click.option("--max-name-length", type=click.IntRange(0, 255), default=64, show_default=True, metavar="BYTES")
@_JSON
def keygen(directory: Path, public_name: str | None, max_name_length: int, as_json: bool) -> None:
    """Make keys of a workload that no control plane makes keys for, as files in DIRECTORY.

    noise.key is its Noise static (32 bytes), ech.pem an ECH key and its configuration (RFC 9934): both are private,
    readable by their owner only, and never written over. What is printed is public.
    """
    from commands.tunnel.files import KeyExistsError, write_keys
    from transport.ech.config import EchConfigError

    try:
        made = write_keys(directory, public_name, max_name_length)
    except (KeyExistsError, EchConfigError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    if as_json:
        print_json(made.public())
        return
    for name, value in made.public().items():
        click.echo(f"{name}: {value}")


@command.command()
@click.option("--ech", is_flag=True, help="Announce a new ECH key.")
@click.option("--static", "statics", multiple=True, metavar="SPIFFE_ID", help="A new Noise static for this workload.")
@click.option("--all-statics", is_flag=True, help="New Noise statics for all workloads.")
@click.option("--force", is_flag=True, help="Finish what is under way without those who have not acknowledged.")
@click.option("--wait", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="For all to acknowledge.")
@server_options
@_JSON
def rotate(  # one parameter for each option
    ech: bool,
    statics: Sequence[str],
    all_statics: bool,
    force: bool,
    wait: float,
    server: str,
    identity: Path,
    as_json: bool,
) -> None:
    """Begin a rotation of keys: announced to everybody, and used once everybody has acknowledged that."""
    from aegispb.v1 import tunnel_pb2 as pb

    if not (ech or statics or all_statics or force):
        raise click.UsageError("say what to rotate: --ech, --static SPIFFE_ID, --all-statics, or --force")
    request = pb.RotateTunnelsRequest(ech=ech, statics=statics, all_statics=all_statics, force=force)
    with _admin(server, identity) as stub:
        answer = stub.Rotate(request)
        _show(_waited(stub, answer, wait), as_json=as_json)


@command.command()
@click.argument("spiffe_id")
@server_options
@_JSON
def revoke(spiffe_id: str, server: str, identity: Path, as_json: bool) -> None:
    """Give a workload a new Noise static at once, and refuse its former ones everywhere.

    For a key that was stolen: nobody is waited for, and its tunnels break until both ends have heard.
    """
    from aegispb.v1 import tunnel_pb2 as pb

    with _admin(server, identity) as stub:
        _show(stub.Revoke(pb.RevokeStaticRequest(spiffe_id=spiffe_id)), as_json=as_json)


@command.command()
@click.option("--ech-configs", is_flag=True, help="Only the public ECHConfigList, base64: for clients elsewhere.")
@server_options
@_JSON
def show(ech_configs: bool, server: str, identity: Path, as_json: bool) -> None:
    """Show all keys: states, ages, fingerprints, and which sidecars have not acknowledged the newest.

    Exit status 1 while some have not.
    """
    import base64

    from aegispb.v1 import tunnel_pb2 as pb

    with _admin(server, identity) as stub:
        answer = stub.Show(pb.ShowTunnelsRequest())
    if ech_configs:
        click.echo(base64.b64encode(answer.ech_configs).decode())
        return
    _show(answer, as_json=as_json)
    if answer.waiting_for:
        sys.exit(NOT_WELL)


@command.command()
@click.option(
    "--admin",
    "address",
    default="127.0.0.1:15000",
    show_default=True,
    envvar="AEGIS_TUNNEL_ADMIN",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Admin page of a sidecar.",
)
@_JSON
def status(address: str, as_json: bool) -> None:
    """Show the tunnels of a sidecar: modes, successes and fallbacks, handshake times, ages of its keys."""
    from commands.tunnel.status import StatusError, fetch
    from commands.tunnel.view import show_status

    try:
        page = fetch(address)
    except StatusError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json(page)
    else:
        show_status(page)


@command.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--service", required=True, metavar="NAME", help="The name to hide; the certificate must be for it.")
@click.option("--ech", metavar="FILE|BASE64", help="ECHConfigList: base64, or a file of RFC 9934. Without: GREASE.")
@click.option("--ca", type=click.Path(path_type=Path, exists=True), help="PEM roots; default: the system's.")
@click.option("--public-name", metavar="NAME", help="SNI of a tunnel without ECH.")
@click.option(
    "--noise-key", type=click.Path(path_type=Path, exists=True), help="Our noise.key: shake hands to the end."
)
@click.option("--peer-static", metavar="BASE64", help="Noise static of the peer; needed beside --noise-key.")
@click.option("--min-pq/--no-min-pq", default=False, help="Refuse key exchanges that are not post-quantum.")
@click.option("--retry/--no-retry", default=True, help="Come again once with the retry_configs of the server.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=5.0, show_default=True, metavar="SECONDS")
@_JSON
def probe(as_json: bool, **options: Any) -> None:
    """Shake hands with a server and tell what came of it: is ECH accepted, with which key exchange, how fast.

    Works against any server with TLS 1.3 and ECH. With --noise-key it is the whole handshake of a tunnel, Noise
    included. Exit status 1 unless the handshake succeeds, with ECH if --ech was given.
    """
    from commands.tunnel.probe import ProbeError, Target, probe_twice
    from commands.tunnel.view import show_probe

    try:
        results = probe_twice(Target.of(**options))
    except ProbeError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json([result.shown() for result in results])
    else:
        show_probe(results)
    if not results[-1].succeeded:
        sys.exit(NOT_WELL)


def _admin(server: str, identity: Path) -> Any:
    from aegispb.v1 import tunnel_pb2_grpc

    return admin(Server(server, identity), tunnel_pb2_grpc.TunnelAdminStub)


def _waited(stub: Any, answer: Any, seconds: float) -> Any:
    """The answer once everybody has acknowledged, or when `seconds` are over. A rotation takes several epochs."""
    import time

    from aegispb.v1 import tunnel_pb2 as pb

    until = time.monotonic() + seconds
    while time.monotonic() < until and _is_under_way(answer):
        time.sleep(_WAIT)
        answer = stub.Show(pb.ShowTunnelsRequest())
    return answer


def _is_under_way(answer: Any) -> bool:
    moving = any(key.state == "ANNOUNCED" for key in answer.ech) or any(s.phase != "STEADY" for s in answer.statics)
    return moving or bool(answer.waiting_for)


def _show(answer: Any, *, as_json: bool) -> None:
    if as_json:
        from commands.policy.view import as_json as dictionary

        print_json(dictionary(answer))
        return
    from commands.tunnel.view import show_keys

    show_keys(answer)
