"""Windows and bounds of one tunnel."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Both ends of `mesh/1` use the windows that stand here; tests may agree on smaller ones."""

    stream_window: int = 256 * 1024
    """Bytes that may be under way on one stream. 256 KiB at 10 ms round trip is 25 MB/s for one stream."""
    grown_window: int = 512 * 1024
    """The same once a stream turned out to be bulk: half as many WINDOW frames, a tenth less CPU for both ends."""
    grows_after: int = 1024 * 1024
    """Bytes consumed on a stream that make it bulk."""
    tunnel_window: int = 960 * 1024
    """Bytes that may be under way on all streams: what a tunnel can hold in memory when nobody reads. Two to four
    streams whose readers stand still stop the others, so who serves a reader must drop it after a while."""
    streams: int = 256
    """Streams at a time. One more is refused."""
    queue_high: int = 128 * 1024
    """Bytes queued on a stream above which its writer is asked to wait."""
    queue_low: int = 32 * 1024
    """Bytes queued below which it is told to go on."""
    queue_max: int = 64 * 1024 * 1024
    """Bytes that a writer who does not wait can queue on a stream: a body that was gathered is sent whole."""
    calm_burst: int = 4096
    """Frames of the kind that costs us work and the peer nothing (PING, RESET, tiny WINDOW, empty DATA) at once..."""
    calm_rate: float = 1024.0
    """... and a second. A stream opened and reset at once costs one: rapid reset (CVE-2023-44487) ends the tunnel."""
    control_queue: int = 8192
    """Control frames that wait for a peer who does not read."""


class Calm:
    """A budget for frames that cost us work and the peer nothing."""

    __slots__ = ("_at", "_left", "_limits")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._left = float(limits.calm_burst)
        self._at = now

    def spend(self, now: float) -> bool:
        """Whether one more such frame is bearable at `now`, seconds."""
        self._left = min(self._limits.calm_burst, self._left + (now - self._at) * self._limits.calm_rate) - 1
        self._at = now
        return self._left >= 0
