"""HTTP/1 heads: llhttp decides what is one, we refuse what it lets through although two readers could disagree on it.

A head is read once and then remembered by its bytes without the fields that change with every message (its length and
its trace context), because clients repeat their heads and reading one costs more than all else this proxy does with
it. What is remembered holds no length: that is taken out of the bytes at hand, each time.

llhttp accepts, and we refuse: no Host or several, any Transfer-Encoding but `chunked`, more than 100 fields, heads
above 64 KiB, targets above 8 KiB or with dot segments, CONNECT, TRACE. It refuses to our benefit: a length beside
chunked, several lengths, bare CR or LF, folded lines, NUL, a space before a colon, the HTTP/2 preface.
"""

import re
from typing import Any, Final, Generic, TypeVar

import httptools

from sidecar.codecs.http1_errors import BadAnswerError, BadRequestError

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head, its first line and the empty one included."""
MAX_FIELDS: Final = 100
MAX_TARGET: Final = 8 * 1024
"""Bytes of a request target."""

CHUNKED: Final = -1
"""In place of a length: the body comes in chunks."""
UNTIL_CLOSE: Final = -2
"""In place of a length: the body of an answer ends with its connection."""

Field = tuple[bytes, bytes]
"""Lower-case name and value."""

_LONGEST_KNOWN: Final = 4096
"""Bytes of a head that is remembered."""
_LONGEST_LENGTH: Final = 15
"""Digits of a length."""
_CHANGING: Final = re.compile(
    rb"\r\n(?:content-length:[ \t]*([0-9]{1,15})|traceparent:[ \t]*([0-9a-f-]{55}))[ \t]*(?=\r\n)", re.IGNORECASE
)
_TARGET: Final = re.compile(rb"(?:https?://[^/?#]*)?(/[!-\"$->@-~]*)(\?[!-\"$-~]*)?", re.IGNORECASE)
_DOT_SEGMENT: Final = re.compile(rb"(?:/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:/|\\|%2f|%5c|$)", re.IGNORECASE)

# RFC 9110 section 7.6.1: these belong to one connection, not to the message.
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
_BODILESS: Final = frozenset({204, 304})
# Written anew for every message, by us or by whoever frames it.
_WRITTEN_ANEW: Final = frozenset({b"content-length", b"traceparent", b"host", b"expect"})


class RequestHead:
    """One request head, without its length and trace context. Shared by every request that begins the same."""

    __slots__ = (
        "chunked",
        "expects_continue",
        "fields",
        "host",
        "is_http11",
        "is_persistent",
        "keep_alive",
        "method",
        "path",
        "plan",
        "query",
        "upgrade",
    )

    def __init__(self, method: str, target: tuple[str, str], fields: list[Field], *, is_http11: bool) -> None:
        self.method = method
        self.path, self.query = target
        """The path begins with `/` and has no dot segments. The query is empty or begins with `?`: it may hold keys, is
        passed on and shown to nobody. Both are printable ASCII."""
        self.is_http11 = is_http11
        self.host = _joined(fields, b"host")
        options = _connection_options(fields)
        self.keep_alive = b"close" not in options and (is_http11 or b"keep-alive" in options)
        self.is_persistent = is_http11 and self.keep_alive
        """Whether its connection is kept without anybody saying so."""
        self.upgrade = _joined(fields, b"upgrade").lower() if b"upgrade" in options else ""
        self.expects_continue = is_http11 and _joined(fields, b"expect").lower() == "100-continue"
        self.chunked = any(name == b"transfer-encoding" for name, _ in fields)
        self.fields = _end_to_end(fields, options)
        """What may be passed on, in order."""
        self.plan: Any = None
        """What the owner of this head concluded from it; remembered with it."""

    def values(self) -> dict[str, str]:
        """Lower-case name -> value, several joined by `, ` (RFC 9110 section 5.3). Host is among them."""
        values = {"host": self.host}
        for name, value in self.fields:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            values[key] = f"{values[key]}, {text}" if key in values else text
        return values


class AnswerHead:
    """One answer head, without its length. Shared by every answer that begins the same."""

    __slots__ = (
        "chunked",
        "content_encoding",
        "content_type",
        "fields",
        "first_line",
        "has_body",
        "is_stream",
        "keep_alive",
        "rendered",
        "status",
    )

    def __init__(self, status: int, reason: bytes, fields: list[Field], *, is_http11: bool) -> None:
        self.status = status
        self.has_body = status >= 200 and status not in _BODILESS
        """Whether it is a final answer with a body, unless the request was HEAD (RFC 9112 section 6.3)."""
        self.first_line = b"HTTP/1.1 %d %b\r\n" % (status, reason)
        options = _connection_options(fields)
        self.keep_alive = b"close" not in options and (is_http11 or b"keep-alive" in options)
        self.chunked = any(name == b"transfer-encoding" for name, _ in fields)
        self.content_type = _joined(fields, b"content-type")
        self.is_stream = self.content_type.lower().startswith(("text/event-stream", "application/x-ndjson"))
        """Whether it is read piece by piece by whoever asked."""
        self.content_encoding = _joined(fields, b"content-encoding").lower()
        self.fields = _end_to_end(fields, options)
        self.rendered = self.without(b"")
        """First line and fields as they are passed on: no length, no empty line."""

    def without(self, dropped: bytes) -> bytes:
        """`rendered`, but for one field."""
        lines = [b"%b: %b\r\n" % field for field in self.fields if field[0] != dropped]
        return self.first_line + b"".join(lines)


_HeadT = TypeVar("_HeadT", RequestHead, AnswerHead)


class FamiliarHead(Generic[_HeadT]):
    """The head that came last over one connection, cut open around its length.

    The next one mostly differs in nothing but that: five look-ups in its bytes tell, where finding it among those that
    are remembered costs an expression, a hash and a copy.
    """

    __slots__ = ("_after", "_at", "_before", "head", "length")

    def __init__(self) -> None:
        self._at = 0
        """Where the length begins; 0: nothing is familiar."""
        self._before = b""
        self._after = b""
        self.head: _HeadT | None = None
        """What was read last."""
        self.length = 0
        """Of the body, according to the bytes at hand."""

    def learn(self, raw: bytes, head: _HeadT) -> None:
        """`head` was read from `raw`. The second time in a row it becomes familiar."""
        self._at = 0
        if head is not self.head:
            self.head = head
            return
        parts = _CHANGING.split(raw)
        if len(parts) != 4 or parts[1] is None or head.chunked or len(raw) > _LONGEST_KNOWN:
            return  # no length, or a trace context beside it, which changes with every request
        match = _CHANGING.search(raw)
        assert match is not None  # noqa: S101 it was split there
        self._before, self._after = raw[: match.start(1)], raw[match.end(1) :]
        self._at = len(self._before)

    def end(self, data: bytes) -> int:
        """Where the head at the beginning of `data` ends, if it is this one with the length now in `length`; else 0."""
        at = self._at
        if at and data.startswith(self._before):
            stop = data.find(b"\r", at, at + _LONGEST_LENGTH + 1)
            digits = data[at : max(at, stop)]
            if digits.isdigit() and data.startswith(self._after, stop):
                self.length = int(digits)
                return stop + len(self._after)
        return 0


class RequestHeads:
    """Reads request heads and remembers them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: _Known[RequestHead] = _Known()

    def read(self, raw: bytes) -> tuple[RequestHead, int, bytes]:
        """The head, the length of the body or CHUNKED, and the traceparent or nothing. Raises BadRequestError.

        `raw` ends with its empty line and is not longer than MAX_HEAD.
        """
        key, length, traceparent = _take_changing(raw)
        head = self._known.get(key)
        if head is None:
            head = parse_request_head(raw)
            self._known.put(key, head)
        if not head.chunked:
            return head, 0 if length is None else length, traceparent
        if length is not None:  # a known chunked head, now with a length beside it: request smuggling
            raise BadRequestError("Content-Length stands beside Transfer-Encoding")
        return head, CHUNKED, traceparent


class AnswerHeads:
    """Reads answer heads and remembers them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: _Known[AnswerHead] = _Known()

    def read(self, raw: bytes) -> tuple[AnswerHead, int]:
        """The head, and the length of the body, CHUNKED or UNTIL_CLOSE. Raises BadAnswerError.

        The caller knows which answers have no body whatever they say: to HEAD, 1xx, 204, 304 (RFC 9112 section 6.3).
        """
        try:
            key, length, _ = _take_changing(raw)
        except BadRequestError as error:
            raise BadAnswerError(str(error)) from None
        head = self._known.get(key)
        if head is None:
            head = parse_answer_head(raw)
            self._known.put(key, head)
        if not head.chunked:
            return head, UNTIL_CLOSE if length is None else length
        if length is not None:
            raise BadAnswerError("Content-Length stands beside Transfer-Encoding")
        return head, CHUNKED


def parse_request_head(raw: bytes) -> RequestHead:
    """A request head from its bytes, the empty line included. Raises BadRequestError, nothing else."""
    seen = _Fields()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # a head that asks for another protocol is still a head
    except httptools.HttpParserError:
        raise BadRequestError(f"not HTTP/1.1: {_cause(raw)}") from None
    if not seen.complete:  # llhttp reads the HTTP/2 preface as a head that goes on
        raise BadRequestError(f"not HTTP/1.1: {_cause(raw)}")
    version = parser.get_http_version()
    if version not in {"1.1", "1.0"}:
        raise BadRequestError("HTTP/1.1 is spoken here", 505)
    method = parser.get_method().decode("ascii")
    if method in {"CONNECT", "TRACE"}:
        raise BadRequestError(f"{method} is not supported", 501)
    if len(seen.fields) > MAX_FIELDS:
        raise BadRequestError(f"more than {MAX_FIELDS} header fields", 431)
    if ambiguity := _ambiguity(raw, seen.fields):
        raise BadRequestError(ambiguity)
    _check_request_fields(seen.fields, is_http11=version == "1.1")
    return RequestHead(method, _target(seen.url), seen.fields, is_http11=version == "1.1")


def parse_answer_head(raw: bytes) -> AnswerHead:
    """An answer head from its bytes, the empty line included. Raises BadAnswerError, nothing else."""
    seen = _Fields()
    parser = httptools.HttpResponseParser(seen)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise BadAnswerError("the upstream's answer is not HTTP/1.1") from None
    if not seen.complete:
        raise BadAnswerError("the upstream's head has no end")
    version = parser.get_http_version()
    if version not in {"1.1", "1.0"}:
        raise BadAnswerError("the upstream does not answer in HTTP/1.1")
    if len(seen.fields) > MAX_FIELDS:
        raise BadAnswerError(f"more than {MAX_FIELDS} header fields from the upstream")
    if ambiguity := _ambiguity(raw, seen.fields):
        raise BadAnswerError(f"from the upstream: {ambiguity}")
    return AnswerHead(parser.get_status_code(), seen.reason, seen.fields, is_http11=version == "1.1")


class _Fields:
    """Collects what llhttp reads."""

    __slots__ = ("complete", "fields", "reason", "url")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.url = b""
        self.reason = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


_T = TypeVar("_T")


class _Known(Generic[_T]):
    """What was read before, in two generations: what is used again survives, the rest is forgotten."""

    __slots__ = ("_new", "_old")

    def __init__(self) -> None:
        self._new: dict[bytes, _T] = {}
        self._old: dict[bytes, _T] = {}

    def get(self, key: bytes) -> _T | None:
        known = self._new.get(key)
        if known is None:
            known = self._old.get(key)
            if known is not None:
                self.put(key, known)
        return known

    def put(self, key: bytes, value: _T) -> None:
        if len(key) > _LONGEST_KNOWN:
            return  # together with the count below: at most some 8 MiB for whoever sends a new head each time
        if len(self._new) >= 256:
            self._old, self._new = self._new, {}
        self._new[key] = value


def _take_changing(raw: bytes) -> tuple[bytes, int | None, bytes]:
    """The head without its length and trace context, and both of these."""
    parts = _CHANGING.split(raw)
    if len(parts) == 4:
        return parts[0] + parts[3], None if parts[1] is None else int(parts[1]), parts[2] or b""
    if len(parts) == 1:
        return raw, None, b""
    lengths = [part for part in parts[1::3] if part is not None]
    traces = [part for part in parts[2::3] if part is not None]
    if len(lengths) > 1:
        raise BadRequestError("more than one Content-Length")
    # W3C Trace Context section 3.2: more than one traceparent is none.
    return b"".join(parts[::3]), int(lengths[0]) if lengths else None, traces[0] if len(traces) == 1 else b""


def _ambiguity(raw: bytes, fields: list[Field]) -> str:
    """Why two readers could see different bodies; empty: they cannot."""
    # What llhttp reads as a length and what is taken out of the bytes must be the same field.
    lengths = sum(name == b"content-length" for name, _ in fields)
    if lengths != (_take_changing(raw)[1] is not None):
        return "Content-Length has more than 15 digits"
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]):
        return "the only Transfer-Encoding understood is chunked"
    return ""


def _check_request_fields(fields: list[Field], *, is_http11: bool) -> None:
    hosts = sum(name == b"host" for name, _ in fields)
    if hosts > 1 or (is_http11 and not hosts):  # RFC 9112 section 3.2
        raise BadRequestError("exactly one Host is needed")
    if not is_http11 and any(name == b"transfer-encoding" for name, _ in fields):  # RFC 9112 section 6.1
        raise BadRequestError("Transfer-Encoding in HTTP/1.0")
    if any(name == b"expect" and value.lower() != b"100-continue" for name, value in fields):
        raise BadRequestError("the only expectation understood is 100-continue", 417)


def _target(url: bytes) -> tuple[str, str]:
    if len(url) > MAX_TARGET:
        raise BadRequestError(f"the target is longer than {MAX_TARGET} bytes", 414)
    match = _TARGET.fullmatch(url)
    if match is None:
        raise BadRequestError("the target is not a path of printable ASCII")
    path, query = match[1], match[2] or b""
    if _DOT_SEGMENT.search(path):  # would climb out of a route's prefix at an upstream that resolves it
        raise BadRequestError("the path has dot segments")
    return path.decode("ascii"), query.decode("ascii")


def _connection_options(fields: list[Field]) -> frozenset[bytes]:
    values = [value.lower() for name, value in fields if name == b"connection"]
    return frozenset(option.strip() for value in values for option in value.split(b","))


def _end_to_end(fields: list[Field], options: frozenset[bytes]) -> tuple[Field, ...]:
    dropped = _HOP_BY_HOP | _WRITTEN_ANEW | options
    return tuple(field for field in fields if field[0] not in dropped)


def _joined(fields: list[Field], name: bytes) -> str:
    return ", ".join([value.decode("latin-1") for key, value in fields if key == name])


def _cause(raw: bytes) -> str:
    """The likeliest reason, without quoting anything."""
    if raw.startswith(b"PRI * HTTP/2"):
        return "HTTP/2 with prior knowledge"
    if re.search(rb"(?<!\r)\n", raw):
        return "a line ends in a bare LF"
    return "malformed head"
