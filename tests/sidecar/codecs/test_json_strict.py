"""What is read strictly is read alike by every parser, or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codecs.json_strict import (
    MAX_DEPTH,
    AmbiguousJsonError,
    JsonError,
    read_json,
    read_json_with_lone_surrogates,
)

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    SCALARS | st.text(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
# Text full of what names and their ends are made of: the proof of distinct names must not be fooled.
TRICKY = st.text(alphabet='":\\ \n\t{},[]aé\x00\x1f😀', max_size=12)
TRICKY_DOCUMENTS = st.recursive(
    TRICKY | SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=4)
)


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_every_document_that_json_writes_is_read_to_the_same_value(
    value: object, ascii_only: bool, indent: int | str | None
) -> None:
    document = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")

    assert read_json(document) == value


@given(TRICKY_DOCUMENTS, st.sampled_from([(",", ":"), (" , ", " \n: "), (",\t", "\t:\r\n")]))
def test_text_that_looks_like_names_is_no_repeated_name(value: object, separators: tuple[str, str]) -> None:
    assert read_json(json.dumps(value, separators=separators).encode()) == value


@given(TRICKY, TRICKY_DOCUMENTS, TRICKY_DOCUMENTS, st.booleans(), st.booleans())
def test_repeated_name_is_refused_however_it_is_spelled(
    name: str, first: object, second: object, escape: bool, nested: bool
) -> None:
    spelled = '"' + "".join(f"\\u{ord(c):04x}" for c in name if ord(c) < 0x10000) + '"'
    again = spelled if escape and "😀" not in name else json.dumps(name)
    document = f"{{{json.dumps(name)} : {json.dumps(first)}, {again}\n: {json.dumps(second)}}}"
    if nested:
        document = f'{{"a":[1,{document}],"b":"\\":\\":"}}'

    with pytest.raises(AmbiguousJsonError, match="same name"):
        read_json(document.encode())


LONG = json.dumps("x" * 40_000)


@given(TRICKY_DOCUMENTS)
def test_long_document_of_few_strings_is_read_to_the_same_value(value: object) -> None:
    assert read_json(f"[{json.dumps(value)}, {LONG}]".encode()) == [value, "x" * 40_000]


@given(TRICKY, TRICKY_DOCUMENTS, TRICKY_DOCUMENTS)
def test_repeated_name_is_refused_in_a_long_document_of_few_strings(name: str, first: object, second: object) -> None:
    spelled = json.dumps(name)

    with pytest.raises(AmbiguousJsonError, match="same name"):
        read_json(f"[{LONG}, {{{spelled} : {json.dumps(first)}, {spelled}: {json.dumps(second)}}}]".encode())


def test_long_document_of_many_strings_is_read() -> None:
    document = [LONG, {str(number): [] for number in range(2_000)}, [{"a": "b"}] * 2_000]

    assert read_json(json.dumps(document).encode()) == document


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b" ",
        b"{",
        b"{} {}",
        b"[1,]",
        b'{"a":1,}',
        b"{'a':1}",
        b"01",
        b"1.",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"a\nb"',
        b'"\x00"',
        b'"\\x41"',
        b'"\\u00g0"',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'{"\\ud800":1}',
        b'{"a":1}\x00',
        b"\x0c1",
        b"// x\n1",
        '"a"'.encode("utf-16"),
        b"\xff" * 100,
    ],
)
def test_what_parsers_disagree_on_is_refused(document: bytes) -> None:
    with pytest.raises(JsonError):
        read_json(document)


def test_depth_is_bounded_and_the_bound_itself_is_accepted() -> None:
    read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)

    for levels in (MAX_DEPTH + 1, 5_000, 200_000):
        with pytest.raises(AmbiguousJsonError, match="levels"):
            read_json(b"[" * levels + b"]" * levels)


@given(st.binary(max_size=60))
def test_garbage_gives_a_value_that_the_standard_library_reads_too_or_our_error(document: bytes) -> None:
    try:
        value = read_json(document)
    except JsonError:
        return
    assert value == json.loads(document.decode())


def test_errors_never_quote_the_document() -> None:
    for document in (b'{"a":"123-45-6789\xff"}', b'{"a":"123-45-6789"', b'{"123-45-6789":1,"123-45-6789":2}'):
        with pytest.raises(JsonError) as caught:
            read_json(document)
        assert "6789" not in repr(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_halves_of_an_escaped_pair_are_read_where_they_may_stand() -> None:
    assert read_json_with_lone_surrogates(b'{"a":"x\\ud83d"}') == {"a": "x\ud83d"}
    with pytest.raises(AmbiguousJsonError):
        read_json_with_lone_surrogates(b'{"a":"\\ud83d","a":1}')
    with pytest.raises(JsonError):
        read_json_with_lone_surrogates(b'{"a":"\\ud83d"')
    with pytest.raises(AmbiguousJsonError):
        read_json_with_lone_surrogates(b"[" * (MAX_DEPTH + 1) + b'"\\ud83d"' + b"]" * (MAX_DEPTH + 1))
