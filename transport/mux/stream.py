"""What one end knows of one stream."""

from collections import deque


class Stream:
    """Owned by one `Mux`."""

    __slots__ = (
        "end_queued",
        "end_sent",
        "gone",
        "held",
        "id",
        "in_line",
        "is_full",
        "queue",
        "queued",
        "receive_credit",
        "remote_ended",
        "returnable",
        "send_credit",
    )

    def __init__(self, stream: int, window: int) -> None:
        self.id = stream
        self.send_credit = window
        self.receive_credit = window
        self.held = 0
        """Bytes told to the sink and not yet consumed."""
        self.returnable = 0
        """Bytes consumed and not yet given back to the peer."""
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        self.is_full = False
        self.end_queued = False
        self.end_sent = False
        self.remote_ended = False
        self.in_line = False
        self.gone = False
