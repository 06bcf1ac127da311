"""Which programs make the product, and with which flags each is started."""

import sys
from typing import Final

from commands.up.config import LOOPBACK, UpConfig
from commands.up.directory import Directory
from commands.up.tree import Program

CONTROL_PLANE, LEDGER, SIDECAR = "controlplane", "ledger", "sidecar"

AEGIS: Final = (sys.executable, "-P", "-m", "aegis")
"""-P: a directory named `sidecar` in the working directory must not be imported in place of ours."""


def programs(config: UpConfig, directory: Directory) -> tuple[Program, ...]:
    """In the order of their start. They stop in reverse: the sidecar first, while the ledger still takes its leaves."""
    return (
        _program(
            CONTROL_PLANE,
            identity=directory.identity(CONTROL_PLANE),
            data=directory.controlplane,
            listen=f"{LOOPBACK}:{config.grpc_port}",
            health=f"{LOOPBACK}:{config.health_port}",
            metrics=f"{LOOPBACK}:{config.controlplane_metrics_port}",
        ),
        _program(
            LEDGER,
            "run",
            "--init-if-missing",
            identity=directory.identity(LEDGER),
            data=directory.ledger,
            grpc=f"{LOOPBACK}:{config.ledger_port}",
            http=f"{LOOPBACK}:{config.ledger_http_port}",
            stop_timeout=30,
        ),
        _program(
            SIDECAR,
            identity=directory.identity(SIDECAR),
            data=directory.sidecar,
            listen=f"{LOOPBACK}:{config.port}",
            ready=f"{LOOPBACK}:{config.ready_port}",
            metrics=f"{LOOPBACK}:{config.metrics_port}",
            admin=f"{LOOPBACK}:{config.admin_port}",
            controlplane=f"{LOOPBACK}:{config.grpc_port}",
            ledger=f"{LOOPBACK}:{config.ledger_port}",
            workers=config.workers,
            stop_timeout=45,
        ),
    )


def _program(name: str, *switches: str, stop_timeout: float = 15, **settings: object) -> Program:
    flags = (text for key, value in settings.items() for text in (f"--{key.replace('_', '-')}", str(value)))
    return Program(name, (*AEGIS, name, *switches, *flags), stop_timeout)
