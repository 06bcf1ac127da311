"""What is typed on command lines, read."""

from typing import cast

from settings import Address
from settings.kinds import kind_of


def host_and_port(text: str) -> Address:
    """`host:port`, or `[::1]:port`, to connect to. Raises ValueError, which says what was expected."""
    try:
        address = cast("Address", kind_of(Address).parse(text))
    except ValueError:
        address = None
    if address is None or not address.port:
        raise ValueError(f"expected HOST:PORT, got {text[:100]!r}")
    return address
