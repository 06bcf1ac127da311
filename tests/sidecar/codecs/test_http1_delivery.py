"""Framing of answers for clients of both versions."""

import pytest

from sidecar.codecs.http1_delivery import NO_BODY, UNKNOWN, Delivery

HEAD = b"HTTP/1.1 200 OK\r\na: b\r\n"


def delivery(*, is_http11: bool = True, to_head: bool = False, keep_alive: bool = True) -> Delivery:
    return Delivery(is_http11=is_http11, to_head=to_head, keep_alive=keep_alive)


def test_known_length_is_kept() -> None:
    it = delivery()
    it.head(HEAD, 6)
    it.body(b"abc")
    first = it.take()
    it.body(b"def")
    it.end()

    assert first == HEAD + b"content-length: 6\r\n\r\nabc"
    assert it.take() == b"def"


def test_whole_answer_of_unknown_length_gets_one() -> None:
    it = delivery()
    it.head(HEAD, UNKNOWN)
    it.body(b"ab")
    it.body(b"c")
    it.end()

    assert it.take() == HEAD + b"content-length: 3\r\n\r\nabc"


def test_answer_that_goes_on_is_chunked() -> None:
    it = delivery()
    it.head(HEAD, UNKNOWN)
    it.body(b"ab")
    first = it.take()
    it.body(b"c")
    it.end()

    assert first == HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n"
    assert it.take() == b"1\r\nc\r\n0\r\n\r\n"


def test_head_alone_may_leave_first() -> None:
    it = delivery()
    it.head(HEAD, UNKNOWN)

    assert it.take() == HEAD + b"transfer-encoding: chunked\r\n\r\n"
    it.end()
    assert it.take() == b"0\r\n\r\n"


def test_http10_client_gets_no_chunks_but_the_end_of_the_connection() -> None:
    it = delivery(is_http11=False)
    it.head(HEAD, UNKNOWN)
    it.body(b"ab")

    assert it.take() == HEAD + b"connection: close\r\n\r\nab"
    assert not it.keep_alive


def test_http10_client_that_asked_for_it_keeps_its_connection() -> None:
    it = delivery(is_http11=False)
    it.head(HEAD, 1)
    it.body(b"a")
    it.end()

    assert it.take() == HEAD + b"content-length: 1\r\nconnection: keep-alive\r\n\r\na"


@pytest.mark.parametrize(("length", "line"), [(7, b"content-length: 7\r\n"), (UNKNOWN, b"")])
def test_answer_to_head_has_the_length_but_no_body(length: int, line: bytes) -> None:
    it = delivery(to_head=True)
    it.head(HEAD, length)
    it.body(b"x")
    it.end()

    assert it.take() == HEAD + line + b"\r\n"


def test_answer_without_body_has_neither_length_nor_chunks() -> None:
    it = delivery(keep_alive=False)
    it.head(HEAD, NO_BODY)
    it.end()

    assert it.take() == HEAD + b"connection: close\r\n\r\n"


def test_nothing_taken_may_still_become_something_else() -> None:
    it = delivery()
    it.head(HEAD, UNKNOWN)
    it.body(b"partial")
    it.head(b"HTTP/1.1 502 Bad Gateway\r\n", 3)
    it.body(b"err")
    it.end()

    assert it.take() == b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nerr"
