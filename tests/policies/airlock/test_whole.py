"""The quick way for whole texts says what the machinery for streams says, or leaves them to it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.airlock.config import Restoration
from policies.airlock.labels import Label
from policies.airlock.rehydrate import Restorer
from policies.airlock.tokens import Conversation, Tenant, Vault
from policies.airlock.whole import restored
from policies.model import Channel, ChannelKind
from tests.policies.airlock.test_rehydrate import BENT, NOISE, SSN, TOKEN, VAULT

CONVERSATION = Conversation(Tenant(b"k" * 32), "local", "c", None)
PLAIN = Vault(CONVERSATION)
"""No value needs an escape."""
PLAIN.token(Label.SSN, "123-45-6789", preamble=False)
HIDDEN = Vault(CONVERSATION)
"""The same, and it stands in the preamble only."""
SECRET = HIDDEN.token(Label.SSN, "123-45-6789", preamble=True)
RULES = (Restoration(), Restoration(links=True), Restoration(system_values=False))


def closely(text: str, kind: ChannelKind, vault: Vault, rules: Restoration) -> tuple[str, int]:
    restorer = Restorer(Channel(kind, 0), vault, rules)
    return restorer.feed(text, last=True), restorer.unissued


@given(
    st.lists(NOISE | st.sampled_from([SECRET, f"x {SSN} y", "[SSN-ZZZZZZ]", "[NOTE-ZZZZZZ]", "ß"]), max_size=9).map(
        "".join
    ),
    st.sampled_from([ChannelKind.TEXT, ChannelKind.TOOL_ARGUMENTS, ChannelKind.TOOL_VALUE]),
    st.sampled_from([VAULT, PLAIN, HIDDEN]),
    st.sampled_from(RULES),
)
@example(f"[{SSN}", ChannelKind.TEXT, VAULT, RULES[0])
@example(f"\\{SSN} {SSN[1:-1]}", ChannelKind.TEXT, VAULT, RULES[0])
@example(f"https://e.org/{SSN}", ChannelKind.TEXT, VAULT, RULES[0])
@example(f"{SECRET} https://e.org", ChannelKind.TEXT, HIDDEN, RULES[2])
@example('{"a": "' + TOKEN[Label.ADDRESS] + '"}', ChannelKind.TOOL_ARGUMENTS, VAULT, RULES[0])
def test_quick_way_never_disagrees_with_the_close_one(
    text: str, kind: ChannelKind, vault: Vault, rules: Restoration
) -> None:
    quick = restored(text, kind, vault, rules)

    assert quick is None or quick == closely(text, kind, vault, rules)


@pytest.mark.parametrize(("written", "expected"), BENT)
def test_bent_token_is_left_to_the_close_look_or_is_text(written: str, expected: str) -> None:
    quick = restored(f"a {written} b", ChannelKind.TEXT, VAULT, Restoration())

    assert quick is None or quick[0] == f"a {expected} b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("", 0)),
        ("Heavy rain, [1] and [x].", ("Heavy rain, [1] and [x].", 0)),
        (f"{SSN}{SSN} and (the {SSN})", ("123-45-6789123-45-6789 and (the 123-45-6789)", 0)),
        (f"{SSN} [MRN-000000] [NOTE-000000]", ("123-45-6789 [MRN-000000] [NOTE-000000]", 1)),
        (f"see https://e.org/, {SSN}", None),
        (SSN.lower(), None),
    ],
)
def test_usual_text_needs_no_close_look(text: str, expected: tuple[str, int] | None) -> None:
    assert restored(text, ChannelKind.TEXT, VAULT, Restoration()) == expected
