"""Reading and writing the presentation language of TLS (RFC 8446 section 3) within bounds."""

from transport.tls13.alerts import AlertDescription, TlsError


def decode_error(why: str) -> TlsError:
    """The error for bytes that do not have the shape their message prescribes."""
    return TlsError(AlertDescription.DECODE_ERROR, why)


class Reader:
    """A cursor over bytes of the peer. Every method raises TlsError(decode_error) instead of reading past the end."""

    __slots__ = ("_what", "data", "end", "pos")

    def __init__(self, data: bytes, what: str, pos: int = 0, end: int | None = None) -> None:
        """Reads `data[pos:end]`; `what` names the structure in errors."""
        self.data = data
        self.pos = pos
        self.end = len(data) if end is None else end
        self._what = what

    def integer(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        pos = self.pos
        after = pos + size
        if after > self.end:
            raise self.malformed("ends too early")
        self.pos = after
        return int.from_bytes(self.data[pos:after], "big")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        pos = self.pos
        after = pos + size
        if after > self.end:
            raise self.malformed("ends too early")
        self.pos = after
        return self.data[pos:after]

    def vector(self, length_size: int, *, least: int = 0, most: int | None = None) -> bytes:
        """A vector whose length of `length_size` bytes lies in `least`..`most` bytes."""
        size = self.integer(length_size)
        if size < least or (most is not None and size > most):
            raise self.malformed("has a vector of a length that is not allowed")
        return self.take(size)

    def inside(self, length_size: int) -> "Reader":
        """A reader of the vector that comes next; this one goes on behind it."""
        size = self.integer(length_size)
        start = self.pos
        if start + size > self.end:
            raise self.malformed("ends too early")
        self.pos = start + size
        return Reader(self.data, self._what, start, start + size)

    def integers(self, length_size: int, each: int) -> tuple[int, ...]:
        """A vector of one or more integers of `each` bytes."""
        data = self.vector(length_size, least=each)
        if len(data) % each:
            raise self.malformed("has a vector that is not a whole number of elements")
        return tuple(int.from_bytes(data[i : i + each], "big") for i in range(0, len(data), each))

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.pos

    def finish(self) -> None:
        """Raise unless everything has been read."""
        if self.pos != self.end:
            raise self.malformed("has bytes after its end")

    def malformed(self, why: str) -> TlsError:
        """A decode_error that names the structure."""
        return decode_error(f"{self._what} {why}")


def vector(length_size: int, data: bytes) -> bytes:
    """`data` behind its length. Raises OverflowError if it does not fit."""
    return len(data).to_bytes(length_size, "big") + data


def integers(length_size: int, each: int, values: tuple[int, ...]) -> bytes:
    """A vector of integers of `each` bytes."""
    return vector(length_size, b"".join(value.to_bytes(each, "big") for value in values))
