"""Serves the simulated model on a socket of its own."""

import socket

import uvicorn

from settings import Address
from simulator.app import application
from simulator.config import SimulatorConfig


def bind(address: Address) -> socket.socket:
    """A listening socket. Raises OSError when the address is taken."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def server(config: SimulatorConfig) -> uvicorn.Server:
    """A server to be run on sockets of the caller. Stops on SIGINT and SIGTERM without waiting for stalled answers."""
    return uvicorn.Server(
        uvicorn.Config(
            application(config),
            log_level="critical",  # a simulated death is not an error, and access logs would drown the demo
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            loop="uvloop",
            http="httptools",
        )
    )
