"""What one end knows of one stream."""

from collections import deque

from transport.mux.limits import Limits


class Stream:
    """Owned by one `Mux`."""

    __slots__ = (
        "closed",
        "consumed",
        "end_queued",
        "end_sent",
        "gone",
        "held",
        "id",
        "in_line",
        "is_full",
        "queue",
        "queue_high",
        "queue_low",
        "queued",
        "receive_credit",
        "remote_ended",
        "returnable",
        "send_credit",
        "window",
    )

    def __init__(self, stream: int, limits: Limits) -> None:
        self.id = stream
        self.send_credit = self.receive_credit = self.window = limits.stream_window
        """`window`: what the peer may have under way to us."""
        self.queue_high, self.queue_low = limits.queue_high, limits.queue_low
        self.held = 0
        """Bytes told to the sink and not yet consumed."""
        self.consumed = 0
        """Bytes in all, until the window has grown."""
        self.returnable = 0
        """Bytes consumed and not yet given back to the peer."""
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        self.is_full = False
        self.end_queued = False
        self.end_sent = False
        self.remote_ended = False
        self.in_line = False
        self.closed = False
        """The user is done with it: what still comes is dropped."""
        self.gone = False
