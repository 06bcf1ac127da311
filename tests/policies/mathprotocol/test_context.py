"""Specification section 6, Languages: CONTEXT as Unicode."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.mathprotocol.context import (
    ContextFault,
    ContextRules,
    Damaged,
    Presence,
    clean_context,
    decode_context,
)

rules = st.builds(
    ContextRules,
    max_bytes=st.integers(1, 60),
    max_code_points=st.integers(1, 60),
    damaged=st.sampled_from(Damaged),
    bidi=st.sampled_from(Presence),
    emoji=st.sampled_from(Presence),
)


@given(st.text(max_size=60), rules)
def test_what_is_sent_is_nfc_encodable_within_bounds_and_stable(text: str, rules: ContextRules) -> None:
    cleaned = clean_context(text, rules)

    if isinstance(cleaned, ContextFault):
        return
    assert unicodedata.is_normalized("NFC", cleaned)
    assert len(cleaned) <= rules.max_code_points
    assert len(cleaned.encode()) <= rules.max_bytes
    assert clean_context(cleaned, rules) == cleaned


@given(st.binary(max_size=60), rules)
def test_any_bytes_are_a_text_or_a_fault(raw: bytes, rules: ContextRules) -> None:
    assert isinstance(decode_context(raw, rules), str)


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [(Damaged.KEEP, "a\ufffdb"), (Damaged.STRIP, "ab"), (Damaged.REFUSE, ContextFault.DAMAGED)],
)
def test_lost_bytes_are_kept_stripped_or_refused(damaged: Damaged, expected: str | ContextFault) -> None:
    assert decode_context(b"a\xffb", ContextRules(damaged=damaged)) == expected
    assert clean_context("a\ud800b", ContextRules(damaged=damaged)) == expected


def test_bidi_controls_go_and_right_to_left_text_stays() -> None:
    assert clean_context("\u202eabc\u202c \u2067שלום\u2069 مرحبا", ContextRules()) == "abc שלום مرحبا"
    assert clean_context("\u200fא", ContextRules(bidi=Presence.KEEP)) == "\u200fא"


@pytest.mark.parametrize("emoji", ["😀", "👍🏽", "👩‍⚕️", "🇩🇪", "❤️", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "✂", "1️⃣ 🙂"])
def test_emoji_go_whole_where_policy_says_so(emoji: str) -> None:
    cleaned = clean_context(f"äa {emoji}中", ContextRules(emoji=Presence.STRIP))

    assert isinstance(cleaned, str)
    assert cleaned.replace("1", "").replace("\ufe0f\u20e3", "").replace(" ", "") == "äa中"
    assert clean_context(f"äa {emoji}中", ContextRules()) == f"äa {emoji}中"


def test_letter_and_accent_that_stripping_brings_together_are_one() -> None:
    assert clean_context("e\u202e\u0301", ContextRules()) == "é"


def test_bound_counts_bytes_and_code_points() -> None:
    assert clean_context("ééé", ContextRules(max_bytes=5)) is ContextFault.TOO_LONG
    assert clean_context("ééé", ContextRules(max_code_points=2)) is ContextFault.TOO_LONG
    assert clean_context("e\u0301" * 3, ContextRules(max_bytes=6, max_code_points=3)) == "ééé"


def test_bounds_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        ContextRules(max_bytes=0)
