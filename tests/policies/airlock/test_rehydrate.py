"""Values come back in an answer, wherever it was cut and however the model bent their tokens."""

import json
import string
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.airlock.config import Restoration, ToolRestore
from policies.airlock.labels import Label
from policies.airlock.rehydrate import JsonContext, LinkContext, Restorer, restores
from policies.airlock.surface import LONGEST, begun, is_inert, surfaces
from policies.airlock.tokens import Conversation, Tenant, Vault
from policies.model import Channel, ChannelKind

TEXT = Channel(ChannelKind.TEXT, 0)
ARGUMENTS = Channel(ChannelKind.TOOL_ARGUMENTS, 0, 0, "lookup")
VALUES = [
    (Label.SSN, "123-45-6789"),
    (Label.NAME, "Zoë O'Brien"),
    (Label.DATE_OF_BIRTH, "1 May 1970"),
    (Label.ADDRESS, '12 "Rose" Lane\nLeeds \\ UK'),
    (Label.URL, "https://portal.example.org/p/1?a=b"),
    (Label.LITERAL, "[SSN-ABC123]"),
]


def filled_vault() -> tuple[Vault, dict[Label, str]]:
    vault = Vault(Conversation(Tenant(b"k" * 32), "local", "c", None))
    return vault, {label: vault.token(label, value, preamble=False) for label, value in VALUES}


VAULT, TOKEN = filled_vault()
SSN = TOKEN[Label.SSN]
NAMES = [label.replace("_", "-") for label in Label]
CORE = SSN[1:-1]


def restored(
    pieces: list[str], channel: Channel = TEXT, restoration: Restoration | None = None, vault: Vault = VAULT
) -> str:
    restorer = Restorer(channel, vault, restoration or Restoration())
    released = [restorer.feed(piece, last=False) for piece in pieces]
    return "".join(released) + restorer.feed("", last=True)


BENT = [
    (SSN, "123-45-6789"),
    (SSN.lower(), "123-45-6789"),
    (SSN.replace("-", "_"), "123-45-6789"),
    (SSN.replace("-", "\\_"), "123-45-6789"),
    (SSN.replace("-", "\\-"), "123-45-6789"),
    (SSN.replace("-", " "), "123-45-6789"),
    (SSN.replace("-", "\u2011"), "123-45-6789"),
    (f"<{CORE}>", "123-45-6789"),
    (f"({CORE})", "123-45-6789"),
    (f"{{{CORE}}}", "123-45-6789"),
    (f"⟦{CORE}⟧", "123-45-6789"),
    (f"&lt;{CORE}&gt;", "123-45-6789"),
    (f"\\u003c{CORE}\\u003e", "123-45-6789"),
    (f"\\[{CORE}\\]", "123-45-6789"),
    (f"[[{CORE}]]", "123-45-6789"),
    (f"(({CORE}))", "123-45-6789"),
    (CORE, "123-45-6789"),
    (f"[{CORE}", "123-45-6789"),
    (f"({SSN})", "(123-45-6789)"),
    (f"([{CORE}, x])", "(123-45-6789, x])"),
    (f"[{SSN}, {SSN}]", "[123-45-6789, 123-45-6789]"),
    (f"({CORE} and more)", "(123-45-6789 and more)"),
    (f"**{SSN}**'s", "**123-45-6789**'s"),
    (TOKEN[Label.DATE_OF_BIRTH].replace("-", "\\_"), "1 May 1970"),
    (TOKEN[Label.LITERAL], "[SSN-ABC123]"),
    ("[SSN-ZZZZZZ] and " + SSN, "[SSN-ZZZZZZ] and 123-45-6789"),
    (f"x{CORE}", f"x{CORE}"),
    (f"{CORE}7", f"{CORE}7"),
    (f"[NAME-{CORE[4:]}]", f"[NAME-{CORE[4:]}]"),
]


@pytest.mark.parametrize(("written", "expected"), BENT)
def test_every_bent_token_is_restored_wherever_it_is_cut(written: str, expected: str) -> None:
    for frame in ("{}", "It is {}.", "a {} b"):
        text, wanted = frame.format(written), frame.format(expected)
        for first in range(len(text) + 1):
            for second in range(first, len(text) + 1):
                assert restored([text[:first], text[first:second], text[second:]]) == wanted


@pytest.mark.parametrize(("written", "expected"), BENT)
def test_every_bent_token_is_restored_from_single_characters(written: str, expected: str) -> None:
    assert restored(list(f"So {written} it is")) == f"So {expected} it is"


NOISE = st.sampled_from(
    [
        *TOKEN.values(),
        *(token.lower() for token in TOKEN.values()),
        *(token[1:-1] for token in TOKEN.values()),
        *("[", "]", "[[", "]]", "<", ">", "&lt;", "&gt;", "\\", "\\u003", "&", "(", ")", "-", "_"),
        *("SSN", "SS", "[SSN-", "date-of-birth-", "is", "the", "7", "é"),
        *(" ", "\n", ". ", "DATE OF", "](http://x/", "https://e.org/?", " \u2011", CORE[:-1], CORE[-3:]),
    ]
)


@given(st.lists(NOISE, max_size=12), st.lists(st.integers(0, 200), max_size=8))
@example(["[SSN-", CORE[4:], "]"], [5, 6])
@example(["[", SSN, "]"], [1, 13, 14])
def test_result_does_not_depend_on_where_the_answer_was_cut(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(edges)]

    assert restored(pieces) == restored([text]) == restored(list(text))


PIECES = st.lists(st.one_of(st.lists(NOISE, max_size=4).map("".join), st.text(max_size=8)), max_size=8)


@given(PIECES, st.sampled_from([TEXT, ARGUMENTS]))
@example([" \\u003cSSN-", CORE[4:] + "\\u003e"], TEXT)
@example(["\u017fSN ", CORE[4:]], TEXT)
@example(["[", SSN, " x"], TEXT)
@example([f"see](http://x/ {SSN} ", f"({SSN})", f"a {SSN} b"], TEXT)
def test_quick_look_never_disagrees_with_the_close_one(pieces: list[str], channel: Channel) -> None:
    quick, close = (Restorer(channel, VAULT, Restoration()) for _ in range(2))

    for piece in pieces:
        assert quick.feed(piece, last=False) == close._in_doubt(piece, last=False)
        assert quick._held == close._held
    assert quick.feed("", last=True) == close._in_doubt("", last=True)


@given(
    st.sampled_from(["", "a", "7", " ", "[", "\u00e9"]), st.lists(NOISE, max_size=5).map("".join), st.integers(0, 30)
)
@example("", "\\u003cSSN-", 0)
@example("", "\u212aNAME ", 0)
def test_inert_text_begins_and_holds_no_surface_of_any_label(before: str, text: str, cut: int) -> None:
    piece = text[cut % (len(text) + 1) :]
    cores = {tag: [f"{name}-{tag}" for name in NAMES] for tag in VAULT.cores}
    whole = before + piece

    if is_inert(piece, cores):
        assert begun(whole, len(before), lambda _start: True) == len(whole)
        assert surfaces(whole, len(before), cores, whole=False) == ([], len(whole))


@pytest.mark.parametrize("size", [1, 17])
def test_tags_are_seen_in_few_and_in_many(size: int) -> None:
    cores = {f"{number:06}": [f"SSN-{number:06}"] for number in range(size)}

    assert is_inert("so many words, no token", cores)
    assert not is_inert(f"ssn-{size - 1:06}, see", cores)


@pytest.mark.parametrize("word", ["Dear", " patient", ",", ".\n", " 12", "[1", "caf\u00e9 ", "\u4f60\u597d", ""])
def test_most_of_an_answer_is_inert(word: str) -> None:
    assert is_inert(word, VAULT.cores)


@pytest.mark.parametrize("word", ["see [", " (b", "SSN-", "date ", "\\u00", "&l", "x\u2010", "a", CORE, "\u017f"])
def test_what_may_become_a_token_is_not_inert(word: str) -> None:
    assert not is_inert(word, VAULT.cores)


@given(st.text(string.ascii_letters + string.digits + " -_[]<>()&;\\.", max_size=60))
def test_text_without_tokens_of_ours_leaves_as_it_came(text: str) -> None:
    if not any(tag in text.upper() for tag in VAULT.cores):
        assert restored(list(text)) == text


@given(st.lists(NOISE, max_size=12))
def test_never_more_than_one_token_length_is_held_back(parts: list[str]) -> None:
    restorer = Restorer(TEXT, VAULT, Restoration())
    for char in "".join(parts):
        restorer.feed(char, last=False)
        assert len(restorer._held) <= LONGEST


def test_prose_is_hardly_held_back() -> None:
    text = "The patient was seen on the ward and is doing fine; his plan did not change since the last note. " * 3
    restorer = Restorer(TEXT, VAULT, Restoration())
    held = []
    for word in text.split(" "):
        restorer.feed(word + " ", last=False)
        held.append(len(restorer._held))

    assert max(held) <= 12
    assert sum(map(bool, held)) <= len(held) // 10


@pytest.mark.parametrize("kept", range(1, len(SSN) - 1))
def test_token_that_breaks_off_is_never_guessed(kept: int) -> None:
    begun = f"It is {SSN[:kept]}"

    assert restored([begun]) == restored(list(begun)) == begun


def test_longer_tag_of_a_collision_is_no_prefix_trouble() -> None:
    vault = Vault(Conversation(Tenant(b"k" * 32), "local", "c", None))
    short = vault.token(Label.SSN, "1", preamble=False)
    vault._values[f"{short[1:-1]}9"] = "2"
    vault.cores[f"{short[5:-1]}9"] = (f"{short[1:-1]}9",)

    assert restored(list(f"{short} {short[:-1]}9]"), vault=vault) == "1 2"


CROWD = Vault(Conversation(Tenant(b"k" * 32), "local", "c", None))
CROWDED = {CROWD.token(Label.MRN, str(n), preamble=False): str(n) for n in range(100, 140)} | {
    CROWD.token(label, value, preamble=False): value for label, value in VALUES
}


@given(
    st.lists(NOISE | st.sampled_from([*CROWDED, "ß", "ſ", "ŉ", SSN.replace("S", "ſ"), "x", "9"]), max_size=9).map(
        "".join
    )
)
@example("Straße " + SSN.lower())
@example("ŉ" + SSN.lower())
def test_few_tokens_and_many_are_found_alike(text: str) -> None:
    """Few are looked for one by one, many in every word; and some letters have capitals of two letters, or none."""
    few, _ = surfaces(text, 0, VAULT.cores, whole=True)
    many, _ = surfaces(text, 0, CROWD.cores, whole=True)

    assert few == [surface for surface in many if VAULT.value(surface[2])]


def test_forty_values_come_back() -> None:
    text = "; ".join(CROWDED)

    assert restored([text], vault=CROWD) == "; ".join(CROWDED.values())


# --- tokens that nobody issued ---


def unissued(pieces: list[str]) -> int:
    restorer = Restorer(TEXT, VAULT, Restoration())
    for piece in pieces:
        restorer.feed(piece, last=False)
    restorer.feed("", last=True)
    return restorer.unissued


def test_tokens_that_nobody_issued_are_counted() -> None:
    theirs = f"[SSN-ZZZZZZ] [DATE-OF-BIRTH-{CORE[4:]}] [[AGE-OVER-89-000000]]"

    assert unissued([f"{SSN} {theirs} [NOTE-ZZZZZZ] SSN-ZZZZZZ [MRN-00000"]) == 3


@given(st.lists(NOISE | st.sampled_from(["[SSN-ZZZZZZ]", "[MRN-000000"]), max_size=12), st.lists(st.integers(0, 99)))
def test_count_does_not_depend_on_where_the_answer_was_cut(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})

    assert unissued([text[a:b] for a, b in pairwise(edges)]) == unissued([text]) == unissued(list(text))


def test_bracket_that_never_closes_is_not_kept() -> None:
    restorer = Restorer(TEXT, VAULT, Restoration())
    for _ in range(1000):
        restorer.feed("[no token ", last=False)
        restorer.feed("of ours " * 9, last=False)

    assert restorer._unissued.begun == ""


# --- tool calls ---


@pytest.mark.parametrize("label", [label for label, _ in VALUES])
def test_tool_arguments_still_parse_and_hold_the_value(label: Label) -> None:
    """T7."""
    document = json.dumps({"a": f"for {TOKEN[label]}.", "b": [TOKEN[label]]})

    answer = json.loads(restored(list(document), ARGUMENTS))

    value = dict(VALUES)[label]
    assert answer == {"a": f"for {value}.", "b": [value]}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_document_within_a_string_is_escaped_once_more_for_every_depth(depth: int) -> None:
    document = json.dumps({"address": TOKEN[Label.ADDRESS]})
    for _ in range(depth):
        document = json.dumps({"body": document})

    answer = restored(list(document), ARGUMENTS)

    for _ in range(depth):
        answer = json.loads(answer)["body"]
    assert json.loads(answer) == {"address": dict(VALUES)[Label.ADDRESS]}


def test_quotation_in_prose_is_no_document() -> None:
    document = json.dumps({"note": f'He said "hi" and \u00e9\ud83d\ude00 {TOKEN[Label.ADDRESS]}'})

    answer = json.loads(restored(list(document), ARGUMENTS))

    assert answer["note"].endswith(dict(VALUES)[Label.ADDRESS])


def test_nobody_nests_five_documents_and_nothing_is_restored_there() -> None:
    document = json.dumps({"address": TOKEN[Label.ADDRESS]})
    for _ in range(5):
        document = json.dumps({"body": document})

    assert restored([document], ARGUMENTS) == document


@given(st.lists(st.text(max_size=8), max_size=4), st.integers(0, 3))
def test_no_string_is_open_at_the_end_of_a_document(strings: list[str], depth: int) -> None:
    document = json.dumps(strings)
    for _ in range(depth):
        document = json.dumps({"k": document, "n": [1, None, document]})
    context = JsonContext(follow=True)

    context.pass_over(document)

    assert context._document.depth() == 0


@pytest.mark.parametrize(
    ("channel", "restoration", "expected"),
    [
        (ARGUMENTS, Restoration(), True),
        (ARGUMENTS, Restoration(tools=ToolRestore.NEVER), False),
        (ARGUMENTS, Restoration(tools=ToolRestore.ALLOW_LIST, tool_names=frozenset({"lookup"})), True),
        (ARGUMENTS, Restoration(tools=ToolRestore.ALLOW_LIST, tool_names=frozenset({"other"})), False),
        (Channel(ChannelKind.TOOL_INPUT, 0), Restoration(tools=ToolRestore.ALLOW_LIST), False),
        (Channel(ChannelKind.TOOL_VALUE, 0), Restoration(), True),
        (Channel(ChannelKind.REASONING, 0), Restoration(), False),
        (Channel(ChannelKind.REASONING, 0), Restoration(reasoning=True), True),
        (Channel(ChannelKind.REFUSAL, 0), Restoration(tools=ToolRestore.NEVER), True),
        (Channel(ChannelKind.TRANSCRIPT, 0), Restoration(), True),
    ],
)
def test_values_come_back_only_where_policy_lets_them(
    channel: Channel, restoration: Restoration, expected: bool
) -> None:
    assert restores(channel, restoration) is expected


def test_value_of_the_system_prompt_stays_away_when_policy_says_so() -> None:
    """T12."""
    vault = Vault(Conversation(Tenant(b"k" * 32), "local", "c", None))
    hidden = vault.token(Label.PHONE, "555-123-4567", preamble=True)
    shared = vault.token(Label.EMAIL, "a@b.de", preamble=True)
    vault.token(Label.EMAIL, "a@b.de", preamble=False)

    assert restored([hidden + shared], restoration=Restoration(system_values=False), vault=vault) == f"{hidden}a@b.de"
    assert restored([hidden + shared], vault=vault) == "555-123-4567a@b.de"


# --- links ---

INSIDE = [
    "![x](https://evil.example/?q={})",
    "[x]( https://evil.example/{} )",
    "[x](/relative?q={})",
    "[x]( \n relative?q={})",
    "[x](<https://evil.example/a b{}>)",
    "[1]: <https://evil.example/a b {}>",
    "see https://evil.example/a/{}",
    "see //evil.example/{}",
    "see https:\\\\evil.example/{}",
    '<img src="https://evil.example/a b?{}">',
    "<img src='https://evil.example/a b?{}'>",
    "<https://evil.example/{}>",
    '[x](https://evil.example/"{})',
    "[x](https://evil.example/(a){})",
]
OUTSIDE = [
    "{} wrote",
    "see https://ok.example/ for {}",
    "[x](https://ok.example) then {}",
    '{{"url":"https://ok.example/a","ssn":"{}"}}',
    '{{"note":"see https://ok.example/a","ssn":"{}"}}',
    "<a href='https://ok.example/'>{}",
    "<https://ok.example> {}",
    "and/or {}",
    "[a] ({})",
]


@pytest.mark.parametrize("template", INSIDE)
def test_no_value_is_written_into_a_web_address(template: str) -> None:
    text = template.format(SSN)

    assert restored([text]) == text
    assert restored(list(text)) == text
    assert restored([text], restoration=Restoration(links=True)) == template.format("123-45-6789")


@pytest.mark.parametrize("template", OUTSIDE)
def test_value_beside_a_web_address_comes_back(template: str) -> None:
    text, expected = template.format(SSN), template.format("123-45-6789")

    assert restored([text]) == expected
    assert restored(list(text)) == expected


@given(st.text("]()<>\"' \nhtps:/\\ax", max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_whether_an_address_is_open_does_not_depend_on_the_cut(text: str, cuts: list[int]) -> None:
    whole, cut_up = LinkContext(), LinkContext()
    whole.pass_over(text)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for a, b in pairwise(edges):
        cut_up.pass_over(text[a:b])
        cut_up._advance()

    assert whole.insert("v") == cut_up.insert("v")


def test_long_address_stays_an_address() -> None:
    text = f"![x](https://evil.example/{'a' * 5000}{SSN})"

    assert restored([text]) == text
    assert restored([text[i : i + 7] for i in range(0, len(text), 7)]) == text
