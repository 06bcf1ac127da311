"""Heads: what is refused although llhttp accepts it, and that remembering a head changes nothing."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codecs.http1_errors import BadAnswerError, BadRequestError
from sidecar.codecs.http1_head import CHUNKED, UNTIL_CLOSE, AnswerHeads, RequestHeads

HOST = b"Host: a\r\n"


def post(*fields: bytes, target: bytes = b"/v1", version: bytes = b"1.1") -> bytes:
    return b"POST %b HTTP/%b\r\n%b%b\r\n" % (target, version, HOST, b"".join(f + b"\r\n" for f in fields))


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (post(b"Host: b"), 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        (post(b"Transfer-Encoding: identity, chunked"), 400),
        (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        (post(b"Transfer-Encoding: chunked;q=1"), 400),
        (post(b"Transfer-Encoding: xchunked"), 400),
        (post(b"Transfer-Encoding: chunked", b"Content-Length: 4"), 400),
        (post(b"Content-Length: 4", b"Transfer-Encoding: chunked"), 400),
        (post(b"Content-Length: 4", b"Content-Length: 4"), 400),
        (post(b"CONTENT-LENGTH: 4", b"content-length: 5"), 400),
        (post(b"Content-Length: 4, 4"), 400),
        (post(b"Content-Length: +4"), 400),
        (post(b"Content-Length: 0x4"), 400),
        (post(b"Content-Length: -4"), 400),
        (post(b"Content-Length:"), 400),
        (post(b"Content-Length: 0000000000000000000004"), 400),
        (post(b"Transfer-Encoding: chunked", version=b"1.0"), 400),
        (post(b"X : y"), 400),
        (post(b"X: y", b" folded"), 400),
        (post(b"X: \x00"), 400),
        (post(b"Expect: something"), 417),
        (post(target=b"/../admin"), 400),
        (post(target=b"/a/%2e%2E/b"), 400),
        (post(target=b"/a/..%2fb"), 400),
        (post(target=b"/a\\..\\b"), 400),
        (post(target=b"/a#b"), 400),
        (post(target=b"*"), 400),
        (post(target=b"/" + b"a" * 8192), 414),
        (post(*[b"X: y"] * 100), 431),
        (post(version=b"2.0"), 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ],
)
def test_head_that_two_readers_could_understand_differently_is_refused(raw: bytes, status: int) -> None:
    with pytest.raises(BadRequestError) as caught:
        RequestHeads().read(raw)

    assert caught.value.status == status


def test_length_beside_a_remembered_chunked_head_is_refused() -> None:
    heads = RequestHeads()
    chunked = post(b"Transfer-Encoding: chunked")
    assert heads.read(chunked)[1] == CHUNKED

    with pytest.raises(BadRequestError, match="beside"):
        heads.read(post(b"Transfer-Encoding: chunked", b"Content-Length: 4"))


def test_remembered_head_takes_its_length_and_trace_from_the_bytes_at_hand() -> None:
    heads = RequestHeads()
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    first, length, traceparent = heads.read(post(b"Content-Length: 7", b"traceparent: " + trace, b"X: y"))

    second, other_length, nothing = heads.read(post(b"content-length:  9 ", b"X: y"))

    assert (length, traceparent) == (7, trace)
    assert (other_length, nothing) == (9, b"")
    assert first is second
    assert (b"x", b"y") in first.fields


def test_two_trace_contexts_are_none() -> None:
    trace = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    head, _, traceparent = RequestHeads().read(post(trace, trace))

    assert traceparent == b""
    assert not head.fields


def test_fields_of_the_hop_and_those_named_in_connection_do_not_pass() -> None:
    raw = post(
        b"Connection: keep-alive, X-Private",
        b"X-Private: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authorization: Basic x",
        b"TE: trailers",
        b"Trailer: X",
        b"Authorization: Bearer k",
    )

    head, _, _ = RequestHeads().read(raw)

    assert head.fields == ((b"authorization", b"Bearer k"),)


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        (b"1.1", (), True),
        (b"1.1", (b"Connection: close",), False),
        (b"1.1", (b"Connection: keep-alive, CLOSE",), False),
        (b"1.0", (), False),
        (b"1.0", (b"Connection: Keep-Alive",), True),
    ],
)
def test_keep_alive_follows_version_and_connection(version: bytes, fields: tuple[bytes, ...], expected: bool) -> None:
    head, _, _ = RequestHeads().read(post(*fields, version=version))

    assert head.keep_alive is expected


def test_absolute_target_is_taken_for_its_path() -> None:
    head, _, _ = RequestHeads().read(post(target=b"http://elsewhere:1/v1/x?key=s"))

    assert (head.path, head.query) == ("/v1/x", "?key=s")


def test_many_different_heads_are_not_all_remembered() -> None:
    heads = RequestHeads()

    for number in range(5000):
        heads.read(post(b"X-Unique: %d" % number))

    known = heads._known
    assert len(known._new) + len(known._old) <= 512


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 5),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED),
        (b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_CLOSE),
        (b"HTTP/1.0 200 OK\r\n\r\n", UNTIL_CLOSE),
    ],
)
def test_answer_says_how_its_body_is_framed(raw: bytes, expected: int) -> None:
    assert AnswerHeads().read(raw)[1] == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    ],
)
def test_answer_that_two_readers_could_understand_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(BadAnswerError):
        AnswerHeads().read(raw)


def test_repeated_answer_fields_pass_one_by_one() -> None:
    raw = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    head, _ = AnswerHeads().read(raw)

    assert head.rendered == b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"
    assert not head.keep_alive


@given(st.binary(max_size=200))
def test_garbage_gives_only_our_error(raw: bytes) -> None:
    for heads, error in ((RequestHeads(), BadRequestError), (AnswerHeads(), BadAnswerError)):
        with suppress(error):
            heads.read(raw + b"\r\n\r\n")


@given(st.lists(st.sampled_from([b"Content-Length: 3", b"content-length: 4", b"X: y", b"Transfer-Encoding: chunked"])))
def test_remembering_changes_no_verdict(fields: list[bytes]) -> None:
    """Whatever came before, a head is read as if it were the first."""
    warmed = RequestHeads()
    for field in (b"Content-Length: 3", b"X: y", b"Transfer-Encoding: chunked"):
        warmed.read(post(field))

    def verdict(heads: RequestHeads) -> object:
        try:
            head, length, _ = heads.read(post(*fields))
        except BadRequestError as error:
            return error.status
        return head.fields, length

    assert verdict(warmed) == verdict(RequestHeads())
