"""Damage is undone, and offsets lead back to the original."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.airlock.normalise import normalise

UNDONE = [
    ("750\u201128\u20136688", "750-28-6688"),
    ("7\u00a0Jun\u20092012", "7 Jun 2012"),
    ("٠١٢ ०१२ ０１２", "012 012 012"),
    ("ＡＢ＠ｃ．ｄｅ", "AB@c.de"),
    ("a\u200bb\u00adc\ufeffd", "abcd"),
    ("a&#64;b&commat;c&#x2d;d&nbsp;e", "a@b@c-d e"),
    ("a&unknown;b &amp b", "a&unknown;b &amp b"),
    ("a%40b%20c%2Bd%C2%A0e", "a@b c+d e"),
    ("ann [at] x (dot) org", "ann@x.org"),
    ("ann at x dot org", "ann@x.org"),
    ("at home, a dot on the map", "at home, a.on the map"),
    ("168-\n 75", "168-75"),
    ("1 2 3 - 4 5   6 7 8, ok", "123-45 678, ok"),
    ("A u g u s t   1 0 t h", "August 10th"),
    ("a b c", "a b c"),
    ("", ""),
]


@pytest.mark.parametrize(("damaged", "plain"), UNDONE)
def test_damage_is_undone(damaged: str, plain: str) -> None:
    assert normalise(damaged).text == plain


@pytest.mark.parametrize(
    ("text", "value", "original"),
    [
        ("SSN 750\u200b28&#45;6688 x", "75028-6688", "750\u200b28&#45;6688"),
        ("\u200b750\u200b x", "750", "750"),
        ("a&#64;b", "@", "&#64;"),
        ("a&#64;", "a@", "a&#64;"),
        ("x 1 2 3 4 5 6 7 y", "34", None),
        ("no damage", "dam", "dam"),
    ],
)
def test_span_leads_back_to_the_original(text: str, value: str, original: str | None) -> None:
    plain = normalise(text)
    at = plain.text.index(value)

    start, end = plain.original(at, at + len(value))

    assert value in normalise(text[start:end]).text if original is None else text[start:end] == original


PARTS = st.sampled_from(
    [
        "\u200b",
        "&#64;",
        "%40",
        " [at] ",
        " [dot] ",
        "1 2 3 4 5 6",
        "-\n",
        "a",
        "7",
        " ",
        "é",
        "٣",
        "\u2011",
        "😀",
        "\ud800",
    ]
)


@given(st.lists(PARTS, max_size=20).map("".join), st.data())
def test_every_span_of_the_plain_text_has_an_origin(text: str, data: st.DataObject) -> None:
    plain = normalise(text)
    if not plain.text:
        return
    start = data.draw(st.integers(0, len(plain.text) - 1))
    end = data.draw(st.integers(start + 1, len(plain.text)))

    first, last = plain.original(start, end)

    assert 0 <= first < last <= len(text)
    wider = plain.original(0, len(plain.text))
    assert wider[0] <= first
    assert last <= wider[1]


@given(st.text(max_size=60))
def test_clean_characters_stay_where_they_stood(text: str) -> None:
    plain = normalise(text)
    if not plain.starts:
        assert len(plain.text) == len(text)
        assert plain.original(0, len(text)) == (0, len(text))
