"""The quick way says what the walk says, or nothing; above all it never leaves an edited string where it was."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.model import Nested, Path
from sidecar.codecs.json_replace import LONGEST, with_strings
from sidecar.codecs.json_splice import replacements, splice
from sidecar.codecs.json_strict import read_json
from tests.sidecar.codecs.test_json_splice import TEXT, VALUES, string_paths


def walked(document: bytes, edits: dict[Path, str]) -> bytes:
    return splice(document, replacements(document, edits))


@given(VALUES, st.data(), st.sampled_from([(",", ":"), (" ,\n", "\t: ")]), st.booleans())
def test_quick_way_and_walk_agree(
    value: Any, data: st.DataObject, separators: tuple[str, str], ascii_only: bool
) -> None:
    document = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()
    paths = string_paths(value)
    chosen = data.draw(st.lists(st.sampled_from(paths), unique=True)) if paths else []
    edits = {path: data.draw(TEXT) for path in chosen}

    quick = with_strings(document, read_json(document), edits)

    assert quick is None or quick == walked(document, edits)


@pytest.mark.parametrize(
    "document",
    [
        b'["a:", 4111, ",b", "\\u002c 4111, "]',  # seems to stand between two strings
        b'["secret", "\\u0073ecret"]',  # the copy is not the one that was meant
        b'{"secret": "\\u0073ecret"}',  # a name is not a value
        b'["x\\"secret", "\\u0073ecret"]',  # begins with a quote that is part of another string
    ],
)
def test_wrong_place_is_never_taken(document: bytes) -> None:
    tree = read_json(document)
    path = string_paths(tree)[-1]

    assert with_strings(document, tree, {path: "[SSN-AAAAAA]"}) is None
    assert read_json(walked(document, {path: "[SSN-AAAAAA]"})) != tree


def test_usual_request_is_spliced_without_a_walk() -> None:
    document = '{"model": "m", "messages": [{"role": "user", "content": "na\u00efve\\n1"}], "n":1e3}'.encode()

    result = with_strings(document, read_json(document), {("messages", 0, "content"): 'new "text"'})

    assert result == b'{"model": "m", "messages": [{"role": "user", "content": "new \\"text\\""}], "n":1e3}'


@pytest.mark.parametrize("path", [(), ("missing",), ("a", 3), ("a", Nested.DOCUMENT, "x"), ("n",)])
def test_path_that_holds_no_string_is_left_to_the_walk(path: Path) -> None:
    document = b'{"a": ["{}"], "n": 1}'

    assert with_strings(document, read_json(document), {path: "x"}) is None


def test_long_document_is_left_to_the_walk() -> None:
    document = json.dumps(["a", "x" * LONGEST]).encode()

    assert with_strings(document, read_json(document), {(0,): "b"}) is None


@example(text="a", copies=2)
@given(text=TEXT, copies=st.integers(1, 3))
def test_repeated_text_is_only_taken_when_it_stands_once(text: str, copies: int) -> None:
    document = json.dumps([text] * copies).encode()

    result = with_strings(document, read_json(document), {(0,): text + "!"})

    if copies > 1:
        assert result is None
    else:
        assert result is None or read_json(result) == [text + "!"]
