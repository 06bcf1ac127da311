"""The record layer: one AEAD pass per record, in place, without copies of what is received (RFC 8446 section 5).

Received bytes are written by the event loop into a buffer of ours and decrypted where they lie. Buffers come from a
pool and go back when all whole records are taken, so between two reads a connection owns no more than the part of a
record that has come, whoever is at the other end. What is sent is copied once, into the very bytes the socket gets.

An AEAD nonce is the IV XOR the number of the record under its keys. Each direction has one reader or writer, used by
one thread; a fork must not go on using either.
"""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag

from transport.tls13.alerts import AlertDescription, TlsError, unexpected_message
from transport.tls13.constants import ContentType
from transport.tls13.key_schedule import Aead, Suite

MAX_PLAINTEXT: Final = 1 << 14
"""Bytes of content in one record (section 5.1)."""
MAX_CIPHERTEXT: Final = MAX_PLAINTEXT + 256
"""Bytes behind the header of one protected record (section 5.2)."""
HEADER: Final = 5
TAG: Final = 16
BUFFER_SIZE: Final = 1 << 18
"""Bytes: one read of the socket brings up to 15 full records."""
MAX_RECORDS_PER_KEY: Final = 1 << 20
"""Section 5.5 allows 2^24.5 full records under AES-GCM; we update long before."""
MAX_BYTES_PER_KEY: Final = 1 << 30
MAX_EMPTY_RECORDS: Final = 32
"""Records without content, in a row: they cost the sender nothing."""
_NUL: Final = b"\0"
_DATA: Final = int(ContentType.APPLICATION_DATA)
_HEADER: Final = Struct("!BHH")
_EMPTY: Final = 1 + TAG
"""Bytes behind the header of a protected record without content..."""
_FULL: Final = MAX_PLAINTEXT + 1 + TAG
"""... and of one with 2^14 bytes, padding counted."""


class BufferPool:
    """Receive buffers that the connections of one event loop share. Not thread-safe."""

    def __init__(self, size: int = BUFFER_SIZE, keep: int = 8) -> None:
        """Buffers of `size` bytes, of which `keep` stay allocated while nobody needs them."""
        if size < HEADER + MAX_CIPHERTEXT:
            raise ValueError("a receive buffer must hold one full record")
        self._size: Final = size
        self._keep: Final = keep
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """A writable buffer with arbitrary content."""
        return self._free.pop() if self._free else memoryview(bytearray(self._size))

    def give(self, buffer: memoryview) -> None:
        """Take a buffer back that nobody reads or writes any more."""
        if len(self._free) < self._keep:
            self._free.append(buffer)


class RecordReader:
    """Cuts what is received into records and takes their protection off."""

    def __init__(self, pool: BufferPool) -> None:
        self._pool: Final = pool
        self._buffer: memoryview | None = None
        self._part = b""
        """What there is of a record while we have no buffer."""
        self._start = 0
        self._end = 0
        self._aead: Aead | None = None
        self._suite: Suite | None = None
        self._secret = b""
        self._iv = 0
        self._sequence = 0
        self._empty = 0
        self._opened = False
        """Whether the peer has protected anything yet."""
        self._pending: tuple[int, memoryview] | None = None
        """A record that `burst` opened and that was none of its own."""

    def rekey(self, suite: Suite, secret: bytes) -> None:
        """Read the next record under the traffic secret `secret`."""
        self._aead, self._iv = suite.traffic_keys(secret)
        self._suite, self._secret, self._sequence = suite, secret, 0

    def update(self) -> None:
        """The peer has sent a KeyUpdate (section 4.6.3)."""
        if self._suite is None:
            raise RuntimeError("there are no keys to update")
        self.rekey(self._suite, self._suite.next_secret(self._secret))

    def get_buffer(self) -> memoryview:
        """Where the next received bytes go. Empty only if whole records wait to be taken by `next_record`."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = self._pool.take()
            self._start, self._end = 0, len(self._part)
            buffer[: self._end] = self._part
            self._part = b""
        elif self._start and len(buffer) - self._start < HEADER + MAX_CIPHERTEXT:
            kept = self._end - self._start
            buffer[:kept] = bytes(buffer[self._start : self._end])
            self._start, self._end = 0, kept
        return buffer[self._end :]

    def buffer_updated(self, count: int) -> None:
        """`count` bytes have been written to the start of what `get_buffer` returned."""
        self._end += count

    def next_record(self) -> tuple[int, memoryview] | None:
        """Type and content of the next whole record, or None. The content is valid until the next call.

        ChangeCipherSpec is returned only if it came without protection. Raises TlsError.
        """
        if self._pending is not None:
            record, self._pending = self._pending, None
            return self._counted(*record)
        start = self._start
        buffer = self._buffer
        have = self._end - start
        if buffer is None:
            return None
        if have < HEADER:
            self._wait(buffer)
            return None
        kind = buffer[start]
        length = buffer[start + 3] << 8 | buffer[start + 4]
        self._check_header(kind, length)
        if have < HEADER + length:
            self._wait(buffer)
            return None
        self._start = after = start + HEADER + length
        content = buffer[start + HEADER : after]
        if self._aead is not None and kind == ContentType.APPLICATION_DATA:
            kind, content = self._open(self._aead, buffer[start : start + HEADER], content)
        return self._counted(kind, content)

    def burst(self, take: Callable[[memoryview, float], None], now: float) -> int:
        """Hand the content of whole records of application data to `take`, until none or another is next; how many.

        The same as `next_record` again and again, at two thirds of its cost. `now` is handed on. What `take` gets stays
        valid until the next `next_record`, which gives the buffer back. Ends early if `take` changes keys or discards.
        Raises TlsError, and what `take` raises: then the record was taken.
        """
        buffer, aead = self._buffer, self._aead
        if buffer is None or aead is None or self._pending is not None:
            return 0
        taken = 0
        start, end, decrypt, header_at = self._start, self._end, aead.decrypt_into, _HEADER.unpack_from
        while end - start >= HEADER and self._aead is aead and self._buffer is buffer:
            kind, _, length = header_at(buffer, start)
            body = start + HEADER
            after = body + length
            plain = after - TAG
            if after > end or kind != _DATA or not _EMPTY < length <= _FULL:
                break  # not whole, or for `next_record` to judge
            nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
            self._sequence += 1
            self._start = after
            try:
                decrypt(nonce, buffer[body:after], buffer[start:body], buffer[body:plain])
            except InvalidTag:
                raise _unopened() from None
            start = after
            content = buffer[body : plain - 1]
            self._opened = True
            if buffer[plain - 1] != _DATA:
                kind, content = self._strip(buffer[body:plain])
                if kind != _DATA or not content:
                    self._pending = kind, content
                    break
            self._empty = 0
            taken += 1
            take(content, now)
        return taken

    def discard(self) -> None:
        """Forget what has been received: nothing of it will be read."""
        self._start, self._part = self._end, b""
        if self._buffer is not None:
            self._wait(self._buffer)

    def _wait(self, buffer: memoryview) -> None:
        self._part = bytes(buffer[self._start : self._end])
        self._pool.give(buffer)
        self._buffer = None

    def _check_header(self, kind: int, length: int) -> None:
        """As soon as the header is here: neither a wrong type nor a wrong length is waited for.

        `legacy_record_version` MUST be ignored (section 5.1).
        """
        if self._aead is None:
            if not ContentType.CHANGE_CIPHER_SPEC <= kind <= ContentType.HANDSHAKE:
                raise unexpected_message("this is no record of a TLS handshake")
            if length > MAX_PLAINTEXT:
                raise TlsError(AlertDescription.RECORD_OVERFLOW, "a record is longer than 2^14 bytes")
        elif kind == ContentType.ALERT and not self._opened:
            # A peer that refuses our first flight may have no keys yet. Anybody on the path could say the same.
            return
        elif kind not in (ContentType.APPLICATION_DATA, ContentType.CHANGE_CIPHER_SPEC):
            raise unexpected_message("a record is not protected")
        elif length > MAX_CIPHERTEXT:
            raise TlsError(AlertDescription.RECORD_OVERFLOW, "a protected record is longer than 2^14 + 256 bytes")

    def _open(self, aead: Aead, header: memoryview, body: memoryview) -> tuple[int, memoryview]:
        end = len(body) - TAG
        if end < 1:
            raise TlsError(AlertDescription.BAD_RECORD_MAC, "a protected record is too short")
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        plaintext = body[:end]
        try:
            aead.decrypt_into(nonce, body, header, plaintext)
        except InvalidTag:
            raise _unopened() from None
        self._opened = True
        if end > MAX_PLAINTEXT + 1:  # section 5.4: padding counts
            raise TlsError(AlertDescription.RECORD_OVERFLOW, "the plaintext of a record is longer than 2^14 bytes")
        return self._strip(plaintext)

    def _strip(self, plaintext: memoryview) -> tuple[int, memoryview]:
        """Type and content of a TLSInnerPlaintext (section 5.2)."""
        end = len(plaintext)
        kind = plaintext[end - 1]
        if kind == 0:
            end = len(bytes(plaintext).rstrip(_NUL))
            if end == 0:
                raise unexpected_message("a record holds padding and nothing else")
            kind = plaintext[end - 1]
        if kind == ContentType.CHANGE_CIPHER_SPEC:  # section 5
            raise unexpected_message("a ChangeCipherSpec under protection")
        return kind, plaintext[: end - 1]

    def _counted(self, kind: int, content: memoryview) -> tuple[int, memoryview]:
        """Section 5.1: zero-length fragments are for application data only, and we take so many and no more."""
        if content:
            self._empty = 0
            return kind, content
        self._empty += 1
        if kind != ContentType.APPLICATION_DATA or self._empty > MAX_EMPTY_RECORDS:
            raise unexpected_message("a record without content")
        return kind, content


class RecordWriter:
    """Puts content into records under the current keys, ready for the socket."""

    def __init__(self, *, first_version: int = 0x0303) -> None:
        """`first_version` is the `legacy_record_version` of the first record, if it goes without protection."""
        self._version = first_version
        self._chunks: list[bytes | bytearray] = []
        self._aead: Aead | None = None
        self._suite: Suite | None = None
        self._secret = b""
        self._iv = 0
        self._sequence = 0
        self._bytes = 0

    @property
    def wants_update(self) -> bool:
        """Whether the keys have protected as much as they should."""
        return self._sequence >= MAX_RECORDS_PER_KEY or self._bytes >= MAX_BYTES_PER_KEY

    def rekey(self, suite: Suite, secret: bytes) -> None:
        """Write the next record under the traffic secret `secret`."""
        self._aead, self._iv = suite.traffic_keys(secret)
        self._suite, self._secret, self._sequence, self._bytes = suite, secret, 0, 0

    def update(self) -> None:
        """Our KeyUpdate has been written (section 4.6.3)."""
        if self._suite is None:
            raise RuntimeError("there are no keys to update")
        self.rekey(self._suite, self._suite.next_secret(self._secret))

    def write(self, kind: int, data: bytes | bytearray | memoryview, *, multiple: int = 1) -> None:
        """Queue `data` in as many records as it takes.

        The last record is padded so that its content is a multiple of `multiple` bytes long, as far as a record has
        room for it (section 5.4); only under keys.
        """
        if self._aead is None:
            self._write_plain(kind, data)
            return
        size = len(data)
        records = max(1, -(-size // MAX_PLAINTEXT))
        padding = min(-size % multiple, records * MAX_PLAINTEXT - size)
        chunk = bytearray(size + padding + records * (HEADER + 1 + TAG))
        self._bytes += size
        with memoryview(data) as source, memoryview(chunk) as target:
            at = position = 0
            for _ in range(records - 1):
                position += self._seal(self._aead, kind, source[at : at + MAX_PLAINTEXT], target[position:], 0)
                at += MAX_PLAINTEXT
            self._seal(self._aead, kind, source[at:], target[position:], padding)
        self._chunks.append(chunk)

    def write_inner(self, plaintexts: Sequence[bytes]) -> None:
        """Queue one record for each TLSInnerPlaintext: content of 1 to 2^14 bytes, then its type (section 5.2).

        The caller who puts content together puts the type behind it at no cost, and it is not copied once more.
        Raises RuntimeError without keys.
        """
        aead = self._aead
        if aead is None:
            raise RuntimeError("there are no keys to protect records with")
        chunk = bytearray(sum(map(len, plaintexts)) + len(plaintexts) * (HEADER + TAG))
        self._bytes += len(chunk)
        iv, encrypt = self._iv, aead.encrypt_into
        length, header = 0, b""
        with memoryview(chunk) as target:
            at = 0
            for plaintext in plaintexts:
                if length != len(plaintext) + TAG:
                    length = len(plaintext) + TAG
                    header = _HEADER.pack(_DATA, 0x0303, length)
                body = at + HEADER
                target[at:body] = header
                at = body + length
                nonce = (iv ^ self._sequence).to_bytes(12, "big")
                self._sequence += 1
                encrypt(nonce, plaintext, header, target[body:at])
        self._chunks.append(chunk)

    def write_raw(self, data: bytes) -> None:
        """Queue a whole record as it is: ChangeCipherSpec."""
        self._chunks.append(data)

    def take(self) -> bytes | bytearray:
        """What is to be sent. The caller owns it."""
        if not self._chunks:
            return b""
        out = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        return out

    def _write_plain(self, kind: int, data: bytes | bytearray | memoryview) -> None:
        for at in range(0, len(data), MAX_PLAINTEXT):
            piece = bytes(data[at : at + MAX_PLAINTEXT])
            header = bytes((kind,)) + self._version.to_bytes(2, "big") + len(piece).to_bytes(2, "big")
            self._version = 0x0303
            self._chunks.append(header + piece)

    def _seal(self, aead: Aead, kind: int, content: memoryview, target: memoryview, padding: int) -> int:
        size = len(content)
        inner = HEADER + size + 1 + padding
        length = size + 1 + padding + TAG
        header = bytes((ContentType.APPLICATION_DATA, 3, 3, length >> 8, length & 0xFF))
        target[:HEADER] = header
        target[HEADER : HEADER + size] = content
        target[HEADER + size] = kind  # behind it zeros: the padding
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        aead.encrypt_into(nonce, target[HEADER:inner], header, target[HEADER : inner + TAG])
        return inner + TAG


def _unopened() -> TlsError:
    """The end of the connection: no other key is ever tried."""
    return TlsError(AlertDescription.BAD_RECORD_MAC, "a record does not open under its keys")
