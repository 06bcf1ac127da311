"""Messages out of streams: any cut of the bytes gives the same messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codecs.http1 import AnswerReader, RequestReader
from sidecar.codecs.http1_chunked import LAST_CHUNK, chunk
from sidecar.codecs.http1_errors import BadAnswerError, BadRequestError
from sidecar.codecs.http1_head import MAX_HEAD, AnswerHead, AnswerHeads, RequestHead, RequestHeads
from tests.fakes.cuts import cuts


class Requests:
    """A sink that deals with every request at once, or when told."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.whole: list[tuple[str, bytes]] = []
        self.begun = 0
        self._at_once = at_once
        self._path = ""
        self._body = b""
        self.reader = RequestReader(RequestHeads(), self._begin)

    def _begin(self, head: RequestHead, length: int, traceparent: bytes) -> "Requests":
        self.begun += 1
        self._path, self._body = head.path, b""
        return self

    def request_body(self, data: bytes) -> None:
        assert data
        self._body += data

    def request_end(self, data: bytes) -> None:
        self.whole.append((self._path, self._body + data))
        if self._at_once:
            self.reader.next_message()


class Answers:
    def __init__(self) -> None:
        self.told: list[object] = []
        self._body = b""

    def answer_interim(self, head: AnswerHead) -> None:
        self.told.append(head.status)

    def answer_head(self, head: AnswerHead, length: int) -> None:
        self.told.append(head.status)
        self._body = b""

    def answer_body(self, data: bytes) -> None:
        assert data
        self._body += data

    def answer_end(self, data: bytes) -> None:
        self.told.append(self._body + data)

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        self.told += [head.status, body]


bodies = st.binary(max_size=30)
offsets = st.lists(st.integers(0, 2000), max_size=12)
FIELDS = [
    *(b"Content-Length: %b\r\n" % length for length in (b"0", b"1", b"27", b"007", b"9 ", b" 8", b"+1", b"1 1", b"")),
    b"Content-Length: 1234567890123456\r\n",
    b"content-length: 4\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X: y\r\n",
]


def fixed(path: str, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


def chunked(path: str, body: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
    return head + b"".join(chunk(body[i : i + 7]) for i in range(0, len(body), 7)) + LAST_CHUNK


@given(st.lists(st.tuples(st.sampled_from([fixed, chunked]), bodies), min_size=1, max_size=5), offsets)
def test_any_cut_gives_the_same_requests(messages: list[tuple[object, bytes]], at: list[int]) -> None:
    expected = [(f"/{number}", body) for number, (_, body) in enumerate(messages)]
    stream = b"\r\n".join(make(f"/{number}", body) for number, (make, body) in enumerate(messages))  # type: ignore[operator]
    sink = Requests()

    for piece in cuts(stream, at):
        sink.reader.feed(piece)

    assert sink.whole == expected
    assert not sink.reader.waiting


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), bodies, offsets)
def test_any_cut_gives_the_same_answers(kinds: list[int], body: bytes, at: list[int]) -> None:
    parts, expected = [], []
    for kind in kinds:
        status = 204 if kind == 2 else 200
        expected += [status, b"" if kind == 2 else body]
        parts.append(
            [
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (chunk(body) if body else b""),
                b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
            ][kind]
        )
    sink, reader = Answers(), AnswerReader(AnswerHeads())

    for answer in parts:
        reader.expect(sink, to_head=False)
        for piece in cuts(answer, at):
            reader.feed(piece)
        assert reader.sink is None

    assert sink.told == expected
    assert reader.reusable


def test_request_waits_until_the_one_before_it_is_dealt_with() -> None:
    sink = Requests(at_once=False)

    sink.reader.feed(fixed("/a", b"1") + fixed("/b", b"2"))
    assert sink.whole == [("/a", b"1")]
    sink.reader.next_message()

    assert sink.whole == [("/a", b"1"), ("/b", b"2")]


def test_thousands_of_requests_at_once_need_no_recursion() -> None:
    sink = Requests()

    sink.reader.feed(fixed("/", b"") * 20_000)

    assert len(sink.whole) == 20_000


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD + b"\r\n\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_what_cannot_become_a_request_is_refused_without_waiting(data: bytes, status: int) -> None:
    with pytest.raises(BadRequestError) as caught:
        Requests().reader.feed(data)

    assert caught.value.status == status


def test_answer_to_head_has_no_body_whatever_it_says() -> None:
    sink, reader = Answers(), AnswerReader(AnswerHeads())
    reader.expect(sink, to_head=True)

    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")

    assert sink.told == [200, b""]
    assert reader.sink is None
    assert reader.reusable


def test_interim_answers_come_before_the_final_one() -> None:
    sink, reader = Answers(), AnswerReader(AnswerHeads())
    reader.expect(sink, to_head=False)

    reader.feed(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    assert sink.told == [103, 200, b"x"]


def test_answer_without_length_ends_with_its_connection() -> None:
    sink, reader = Answers(), AnswerReader(AnswerHeads())
    reader.expect(sink, to_head=False)

    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert reader.sink is not None
    reader.close()

    assert sink.told == [200, b"abc"]
    assert not reader.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_connection_that_ends_within_an_answer_is_an_error(data: bytes) -> None:
    reader = AnswerReader(AnswerHeads())
    reader.expect(Answers(), to_head=False)
    reader.feed(data)

    with pytest.raises(BadAnswerError):
        reader.close()


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_answer_that_nobody_asked_for_spoils_the_connection(surplus: bytes) -> None:
    """It would reach whoever is served next."""
    sink, reader = Answers(), AnswerReader(AnswerHeads())
    reader.expect(sink, to_head=False)

    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" + surplus)

    assert sink.told == [200, b"x"]
    assert not reader.reusable


def test_upstream_cannot_switch_protocols() -> None:
    reader = AnswerReader(AnswerHeads())
    reader.expect(Answers(), to_head=False)

    with pytest.raises(BadAnswerError):
        reader.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


@given(st.binary(max_size=300), offsets)
def test_garbage_gives_only_our_errors(data: bytes, at: list[int]) -> None:
    sink, reader = Requests(), AnswerReader(AnswerHeads())
    reader.expect(Answers(), to_head=False)
    try:
        for piece in cuts(data, at):
            sink.reader.feed(piece)
    except BadRequestError:
        pass
    try:
        for piece in cuts(data, at):
            reader.feed(piece)
        reader.close()
    except BadAnswerError:
        pass


@given(st.lists(st.sampled_from([fixed, chunked]), max_size=6), st.lists(st.sampled_from(FIELDS), max_size=6), offsets)
def test_what_came_before_on_a_connection_changes_no_reading(
    before: list[object], fields: list[bytes], at: list[int]
) -> None:
    """A head that differs from the last one in its length only is not read again."""
    warmed, fresh = Requests(), Requests()
    for make in before:
        warmed.reader.feed(make("/", b"x"))  # type: ignore[operator]
    for _ in range(3):
        warmed.reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nX: y\r\n\r\nx")
    earlier = len(warmed.whole)
    message = b"".join([b"POST / HTTP/1.1\r\nHost: a\r\n", *fields, b"X: y\r\n\r\n"]) + b"0" * 30

    assert _verdict(warmed, message, at, earlier) == _verdict(fresh, message, at, 0)


def _verdict(sink: Requests, message: bytes, at: list[int], earlier: int) -> object:
    try:
        for piece in cuts(message, at):
            sink.reader.feed(piece)
    except BadRequestError as error:
        return error.status
    return sink.whole[earlier:], sink.reader.waiting
