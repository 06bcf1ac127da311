"""Texts that may hold a token are told from those that cannot, and none is missed."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.airlock.labels import Label
from policies.airlock.lookalikes import holding
from policies.airlock.surface import surfaces
from policies.airlock.tokens import Conversation, Tenant, Vault

VAULT = Vault(Conversation(Tenant(b"k" * 32), "local", "c", None))
TOKENS = {label: VAULT.token(label, f"value of {label}", preamble=False) for label in Label}
CORE = TOKENS[Label.DATE_OF_BIRTH][1:-1]

PIECES = st.sampled_from(
    [
        *TOKENS.values(),
        *(token.lower() for token in TOKENS.values()),
        *(token[1:-1].replace("-", "_") for token in TOKENS.values()),
        *(token[1:-1].replace("-", "\\_") for token in TOKENS.values()),
        *(token.replace("-", "\u2011") for token in TOKENS.values()),
        *(token[1:-1].replace("S", "\u017f").replace("I", "\u0131") for token in TOKENS.values()),
        *("SSN", "-", " ", "[", "é", "\ud800", "7", "date review", "MRN 74218096", "\0"),
    ]
)


@given(st.lists(st.lists(PIECES, max_size=4).map("".join), max_size=6))
@example(["", f"x {CORE}", "", f"{CORE}7", ""])
def test_no_text_that_holds_a_token_is_missed(texts: list[str]) -> None:
    held = {i for i, text in enumerate(texts) if surfaces(text, 0, VAULT.cores, whole=True)[0]}

    assert held <= holding(texts, VAULT.cores)


@pytest.mark.parametrize("text", ["MRN 74218096 and date review", "SSN-ABCDEF", "phone number", CORE[:-1], CORE[-6:]])
def test_text_without_a_token_of_ours_is_not_read(text: str) -> None:
    assert holding(["", text, "x"], VAULT.cores) == set()


def test_places_are_those_of_the_texts() -> None:
    assert holding([CORE, "é" * 9, f"{CORE} {CORE}", "", CORE], VAULT.cores) == {0, 2, 4}
