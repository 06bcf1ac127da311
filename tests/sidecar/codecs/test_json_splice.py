"""Only the edited strings change; every other byte is kept (T1)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import Nested, Path
from sidecar.codecs.json_splice import locate, replacements, splice, text_of, value_end, written
from sidecar.codecs.json_strict import read_json, read_json_with_lone_surrogates

TEXT = st.text(alphabet='ab":\\,{}[] \n\té😀\x01', max_size=8)
VALUES = st.recursive(
    TEXT | st.none() | st.integers(-99, 99),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def edited(document: bytes, edits: dict[Path, str]) -> bytes:
    return splice(document, replacements(document, edits))


def string_paths(value: Any, path: Path = ()) -> list[Path]:
    match value:
        case str():
            return [path]
        case dict():
            return [found for name, member in value.items() for found in string_paths(member, (*path, name))]
        case list():
            return [found for index, item in enumerate(value) for found in string_paths(item, (*path, index))]
        case _:
            return []


def with_value(root: Any, path: Path, new: str) -> Any:
    if not path:
        return new
    copy = dict(root) if isinstance(root, dict) else list(root)
    copy[path[0]] = with_value(root[path[0]], path[1:], new)
    return copy


def test_everything_but_the_edited_string_keeps_its_bytes() -> None:
    document = b'{ "z":1.0,\t"a" : [1e3, {"text":"na\\u00efve","n":-0.0}\r\n,"x"], "b":"\\/" }'

    assert edited(document, {("a", 1, "text"): 'tab\t"é'}) == (
        b'{ "z":1.0,\t"a" : [1e3, {"text":"tab\\t\\"\xc3\xa9","n":-0.0}\r\n,"x"], "b":"\\/" }'
    )


@given(VALUES, st.data(), st.sampled_from([(",", ":"), (" ,\n", "\t: ")]), st.booleans())
def test_edits_reach_exactly_the_strings_they_name(
    value: Any, data: st.DataObject, separators: tuple[str, str], ascii_only: bool
) -> None:
    document = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()
    paths = string_paths(value)
    chosen = data.draw(st.lists(st.sampled_from(paths), unique=True)) if paths else []
    edits = {path: data.draw(TEXT) for path in chosen}

    result = edited(document, edits)

    expected = value
    for path, text in edits.items():
        expected = with_value(expected, path, text)
    assert read_json(result) == expected
    if not edits:
        assert result == document


@given(VALUES, TEXT)
def test_a_document_within_a_string_within_a_document_is_edited_in_place(inner: Any, text: str) -> None:
    once = json.dumps({"deep": inner, "edit": "me", "n": 1.5}, indent=1)
    twice = json.dumps({"arguments": once})
    document = json.dumps([{"arguments": twice, "rest": 1}]).encode()
    path: Path = (0, "arguments", Nested.DOCUMENT, "arguments", Nested.DOCUMENT, "edit")

    result = json.loads(edited(document, {path: text}))

    unwrapped = json.loads(result[0]["arguments"])["arguments"]
    assert json.loads(unwrapped) == {"deep": inner, "edit": text, "n": 1.5}
    assert unwrapped.startswith(once[: once.rindex('"edit"')])


def test_names_are_edited_beside_their_values() -> None:
    document = b'{"John Doe":{"John Doe":"x"},"y":1}'

    assert edited(
        document,
        {("John Doe", Nested.KEY): "[N]", ("John Doe", "John Doe", Nested.KEY): "[N]", ("John Doe", "John Doe"): "v"},
    ) == (b'{"[N]":{"[N]":"v"},"y":1}')


def test_numbers_become_strings_where_an_edit_says_so() -> None:
    assert edited(b'{"mrn":12345678 ,"b":[7,true]}', {("mrn",): "[MRN]", ("b", 0): "x"}) == (
        b'{"mrn":"[MRN]" ,"b":["x",true]}'
    )


def test_unknown_path_is_an_error_not_a_silent_leak() -> None:
    with pytest.raises(KeyError):
        replacements(b'{"a":"x"}', {("a",): "y", ("b",): "z"})


@pytest.mark.parametrize("run", [*range(20), 63, 64, 65, 511, 512, 513])
def test_runs_of_backslashes_end_no_string_too_early_or_too_late(run: int) -> None:
    text = "\\" * run + '"' + "\\" * run
    document = json.dumps({"a": text, "b": [text], "c": "x"}).encode()

    assert json.loads(edited(document, {("c",): "y"})) == {"a": text, "b": [text], "c": "y"}
    assert json.loads(edited(document, {("b", 0): "y"})) == {"a": text, "b": ["y"], "c": "x"}


def test_overlapping_replacements_are_an_error() -> None:
    with pytest.raises(ValueError, match="overlap"):
        splice(b"abcdef", [(0, 3, b"x"), (2, 4, b"y")])


def test_containers_are_found_at_their_bracket() -> None:
    document = b'{"a":[ {"b":[]} ]}'

    starts = locate(document, [(), ("a",), ("a", 0, "b")])

    assert [chr(document[at]) for at in starts.values()] == ["{", "[", "["]
    assert document[starts["a",] : value_end(document, starts["a",])] == b'[ {"b":[]} ]'


@given(st.text(alphabet=st.characters(), max_size=20))
def test_quoting_is_undone_by_reading(text: str) -> None:
    # Halves that stand side by side are one character to whoever reads them.
    meant = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    assert text_of(written(text)) == meant
    assert read_json_with_lone_surrogates(written(text)) == meant
