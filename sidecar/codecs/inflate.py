"""Decompresses an answer that came compressed although identity was asked for, within bounds."""

import zlib
from typing import Final

MAX_INFLATED: Final = 64 * 1024 * 1024
"""Bytes of one answer."""
MAX_RATIO: Final = 200
"""Text compresses 3 to 50 times; a bomb of zeros 1,000 times."""
_FREE: Final = 1024 * 1024
"""Bytes for which the ratio is not looked at."""
_ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})


class InflateError(Exception):
    """The bytes are not what their encoding says, or would need too much memory."""


class Inflate:
    """One gzip or zlib stream, cut anywhere."""

    __slots__ = ("_came", "_made", "_stream")

    def __init__(self, encoding: str) -> None:
        """Raises InflateError for an encoding that is none of these."""
        if encoding not in _ENCODINGS:
            raise InflateError("the answer is compressed although identity was asked for, and not by gzip or deflate")
        self._stream = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, as the first bytes say
        self._came = 0
        self._made = 0

    def feed(self, data: bytes) -> bytes:
        """What `data` decompresses to so far. Raises InflateError."""
        self._came += len(data)
        allowed = min(MAX_INFLATED, _FREE + self._came * MAX_RATIO) - self._made
        try:
            text = self._stream.decompress(data, allowed + 1)
        except zlib.error:
            raise InflateError("the compressed answer is damaged") from None
        self._made += len(text)
        if len(text) > allowed:
            raise InflateError("the compressed answer is too long or a bomb")
        if self._stream.unused_data:
            raise InflateError("bytes follow the end of the compressed answer")
        return text

    def close(self) -> None:
        """The answer ended. Raises InflateError if the stream did not."""
        if not self._stream.eof:
            raise InflateError("the compressed answer is cut off")
