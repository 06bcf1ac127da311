"""Finds out before anything starts whether every port can be had."""

import errno
import socket
from contextlib import ExitStack, suppress

from commands.up.config import LOOPBACK, UpConfig
from settings import Finding, SettingsError


def settled(config: UpConfig, *, give_way: bool = False) -> UpConfig:
    """The config with a number for every port that was 0. Raises SettingsError naming every port that is taken.

    `give_way` takes a free port in place of a taken one. All ports are held together while this looks, so none is
    given twice; then they are let go for the programs, and what another process takes in between is noticed there.
    """
    findings: list[Finding] = []
    ports: dict[str, int] = {}
    with ExitStack() as held:
        for name, port in config.ports().items():
            listener = held.enter_context(socket.socket())
            # As the programs do: a port whose last connections are in TIME_WAIT is not taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
                listener.listen(1)
            except OSError as error:
                if not give_way:
                    findings.append(Finding(name, _problem(error, port), f"flag --{name.replace('_', '-')}"))
                    continue
                listener = held.enter_context(socket.create_server((LOOPBACK, 0)))
            ports[name] = listener.getsockname()[1]
    if findings:
        raise SettingsError(findings)
    return config.with_ports(ports)


def free_port(wanted: int) -> int:
    """The wanted port if it can be had, or any free one."""
    for port in (wanted, 0):
        with suppress(OSError), socket.create_server((LOOPBACK, port)) as listener:
            return int(listener.getsockname()[1])
    raise OSError(errno.EADDRINUSE, "no port is free")


def _problem(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another process; choose another one, or 0 for any free one"
    return f"port {port} cannot be opened: {error.strerror}"
