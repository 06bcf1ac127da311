"""Why a tunnel's streams ended.

MuxError             the peer broke a rule of `mesh/1`; its code goes into GOAWAY
SaturatedError       ours: as many streams as allowed are open, or the tunnel is going away
"""

from transport.mux.frames import Code


class MuxError(Exception):
    """The peer broke a rule. The tunnel must send what `Mux.take` still gives (GOAWAY), then close."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class SaturatedError(Exception):
    """No further stream can be opened on this tunnel; another tunnel may have room."""
