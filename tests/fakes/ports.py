"""Ports for processes that have to be told theirs beforehand.

A port that the kernel gave and took back may be given to the next test before our process has it: two workers of
one run got in each other's way like that. So these are below the kernel's range, and each worker has its share.
"""

import itertools
import os
import socket
from typing import Final

_FIRST: Final = 12_000
_SHARE: Final = 2_000
"""Ports of one worker; the kernel's begin at 32,768."""
_worker: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_next: Final = itertools.count(os.getpid())


def reserved_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has and that no other worker is given."""
    found: list[int] = []
    for number in itertools.islice(_next, _SHARE):
        port = _FIRST + _worker * _SHARE + number % _SHARE
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError("too many ports are taken")
