"""How `aegis policy` and its kin reach the control plane: the operator's certificate, and errors in plain words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

MAX_MESSAGE: Final = 16 * 1024 * 1024
_DEADLINE: Final = 60.0
"""Seconds; the control plane builds every changed policy before it answers."""
Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Server:
    """Where the control plane is, and who is asking."""

    address: str
    identity: Path
    """Directory with `tls.crt`, `tls.key` and `ca.crt` of an operator."""


def server_options(function: Function) -> Function:
    """--server and --identity."""
    address = click.option(
        "--server",
        default="127.0.0.1:8443",
        show_default=True,
        envvar="AEGIS_POLICY_SERVER",
        show_envvar=True,
        metavar="HOST:PORT",
        help="The control plane.",
    )
    identity = click.option(
        "--identity",
        default=Path("~/.local/state/aegis/identity/operator"),
        show_default=True,
        envvar="AEGIS_POLICY_IDENTITY",
        show_envvar=True,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Directory with an operator's tls.crt, tls.key and ca.crt.",
    )
    return address(identity(function))


@contextmanager
def admin(server: Server, stub: Callable[[Any], Any] | None = None) -> Iterator[Any]:
    """The PolicyAdmin stub, or another one. Failures end the command with status 1 and what to do."""
    import grpc
    from aegispb.v1 import admin_pb2_grpc

    directory = server.identity.expanduser()
    try:
        files = [(directory / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt")]
    except OSError as error:
        raise click.ClickException(
            f"cannot read {error.filename} ({error.strerror}); "
            "--identity names the directory with an operator's tls.crt, tls.key and ca.crt"
        ) from None
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.max_send_message_length", MAX_MESSAGE),
    ]
    credentials = grpc.ssl_channel_credentials(*files)
    with grpc.secure_channel(server.address, credentials, options) as channel:
        try:
            yield _Deadline((stub or admin_pb2_grpc.PolicyAdminStub)(channel))
        except grpc.RpcError as error:
            raise click.ClickException(_explained(error, server)) from None


class _Deadline:
    """The stub with a deadline on every call."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._stub, method)
        return lambda request: call(request, timeout=_DEADLINE)


def _explained(error: Any, server: Server) -> str:
    code, details = error.code().name, error.details()
    match code:
        case "UNAVAILABLE":
            return (
                f"no control plane answers at {server.address}, or it does not accept the certificate in "
                f"{server.identity}; is it running, and are both of one CA? ({details})"
            )
        case (
            "PERMISSION_DENIED"
            | "UNAUTHENTICATED"
            | "ABORTED"
            | "NOT_FOUND"
            | "INVALID_ARGUMENT"
            | "FAILED_PRECONDITION"
        ):
            return str(details)
        case "RESOURCE_EXHAUSTED":
            return f"the documents are too large for one push: {details}"
        case _:
            return f"the control plane failed ({code}): {details}"
