"""Tunnels over QUIC where the extra `quic` is installed, which is not loaded before the first one is dialled."""

from importlib.util import find_spec

from transport.tcp.attempts import Datagrams
from transport.tcp.link import Link
from transport.tls13.config import ClientConfig
from transport.tunnel.channel import Channel


def is_installed() -> bool:
    """Whether the extra is."""
    return find_spec("aioquic") is not None


def datagrams() -> Datagrams | None:
    """What `Attempts` needs for endpoints `quic://`; None: nothing is there, and they are passed over."""
    return _Lazily() if is_installed() else None


class _Lazily:
    """Implements `Datagrams`. aioquic costs 7 MB and 0.15 s, and most sidecars have no such peer."""

    def client_channel(self, config: ClientConfig, /) -> Channel:
        from transport.quic import tunnels

        return tunnels.client_channel(config)

    async def dial(self, link: Link, channel: Channel, host: str, port: int, /) -> None:
        from transport.quic import tunnels

        await tunnels.dial(link, channel, host, port)
