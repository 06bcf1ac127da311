"""Commitments and openings (specs/ledger.md 4.2)."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.commitment import (
    MAX_PAYLOAD,
    EpochStatement,
    ExchangeStatement,
    GapStatement,
    Opening,
    Statement,
    commit,
    commit_each,
    encode_statement,
    open_leaf,
    parse_opening,
    parse_statement,
)
from ledger.errors import OpeningError
from ledger.leaf import Leaf, LeafKind

GOLDEN = Path(__file__).with_name("commitment_vectors.json")
SALT = bytes(range(32))
EDGES = (252, 253, 1020, 1021)
"""Lengths of payloads that just fit a bucket, and just do not."""

EXCHANGE = ExchangeStatement(
    ended_us=1_795_132_801_250_000,
    exchange="01JD0000000000000000000000",
    findings={"us_ssn": 1, "email": 2},
    request_sha256=hashlib.sha256(b"request").hexdigest(),
    response_sha256=hashlib.sha256(b"response").hexdigest(),
    route="openai",
    started_us=1_795_132_800_000_000,
)
STATEMENTS: dict[str, Statement] = {
    "exchange": EXCHANGE,
    "gap": GapStatement(1, 2, 3, "queue_full"),
    "epoch": EpochStatement("0.1.0", 1, 7, "start"),
}

salts = st.binary(min_size=32, max_size=32)
integers = st.integers(0, 2**53 - 1)
names = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
statements = st.one_of(
    st.builds(
        ExchangeStatement,
        ended_us=integers,
        exchange=names,
        findings=st.dictionaries(st.text("abcdefghijklmnopqrstuvwxyz_", max_size=12), integers, max_size=6),
        request_sha256=names,
        response_sha256=names,
        route=names,
        started_us=integers,
    ),
    st.builds(GapStatement, integers, integers, integers, names),
    st.builds(EpochStatement, names, integers, integers, names),
)


def exchange_leaf(commitment: bytes, kind: int = LeafKind.EXCHANGE) -> Leaf:
    return Leaf(kind, 1, 0, 0, 0, 200, 0, b"p" * 16, 1, 1, 1_000, 1, commitment)


@given(salts, st.binary(max_size=1100))
def test_commitment_follows_the_formula_of_the_specification(salt: bytes, payload: bytes) -> None:
    framed = len(payload).to_bytes(4, "big") + payload
    bucket = next(size for size in (256, 1024, 4096) if size >= len(framed))
    padded = framed + b"\0" * (bucket - len(framed))
    expected = hashlib.sha256(b"airlock-commit-v1\0" + salt + bucket.to_bytes(8, "big") + padded).digest()

    assert expected == commit(salt, payload)


@given(st.lists(st.tuples(salts, st.binary(max_size=300) | st.sampled_from([bytes(n) for n in EDGES])), max_size=8))
def test_many_commitments_are_those_that_one_by_one_would_be(openings: list[tuple[bytes, bytes]]) -> None:
    together = commit_each(b"".join(salt for salt, _ in openings), [payload for _, payload in openings])

    assert [commit(salt, payload) for salt, payload in openings] == together


def test_many_commitments_need_a_salt_each() -> None:
    with pytest.raises(ValueError, match="as many salts"):
        commit_each(bytes(33), [b"", b""])


@given(salts, st.binary(max_size=300), st.integers(1, 8))
def test_trailing_zeros_are_part_of_what_is_committed_to(salt: bytes, payload: bytes, zeros: int) -> None:
    assert commit(salt, payload) != commit(salt, payload + b"\0" * zeros)


@pytest.mark.parametrize(("salt", "payload"), [(b"x" * 31, b""), (b"x" * 33, b""), (SALT, bytes(MAX_PAYLOAD + 1))])
def test_a_wrong_salt_or_too_long_a_payload_is_refused(salt: bytes, payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"a salt has|a payload has"):
        commit(salt, payload)


def test_the_longest_payload_fills_the_largest_bucket() -> None:
    assert len(commit(SALT, bytes(MAX_PAYLOAD))) == 32


@given(salts, st.binary(max_size=300))
def test_parsing_an_opening_gives_back_what_was_encoded(salt: bytes, payload: bytes) -> None:
    opening = Opening(salt, payload)

    assert opening == parse_opening(opening.encode())


@given(st.binary(max_size=300) | st.binary(max_size=80).map(lambda tail: b"airlock-opening@v1\nsalt " + tail))
def test_garbage_gives_only_an_opening_error(data: bytes) -> None:
    with pytest.raises(OpeningError):
        parse_opening(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b"\n",
        lambda text: text[:-1],
        lambda text: text.replace(b"@v1", b"@v2"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"payload ", b"payload  "),
        lambda text: text.replace(b"salt AAEC", b"salt BBEC\nsalt AAEC"),
        lambda text: text.replace(b"Hh8=", b"Hh9="),
        lambda text: text.replace(b"salt ", b"salt AAEC"),
        lambda text: text.replace(b"payload ", b"payload " + b"AAAA" * 400_000),
        lambda text: text.replace(b"payload ", b"payload " + b"AAAA" * 800_000),
    ],
)
def test_an_opening_has_one_spelling_only(change: Callable[[bytes], bytes]) -> None:
    text = Opening(SALT, encode_statement(EXCHANGE)).encode()

    with pytest.raises(OpeningError):
        parse_opening(change(text))


def test_an_opening_shows_neither_salt_nor_payload() -> None:
    assert repr(Opening(SALT, b"secret")) == "Opening()"


@given(statements)
def test_a_record_is_canonical_json_and_reads_back(statement: Statement) -> None:
    payload = encode_statement(statement)

    assert statement == parse_statement(payload)
    # RFC 8785 for objects with ASCII keys and integers, by an encoder that is not ours.
    decoded = json.loads(payload)
    assert json.dumps(decoded, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == payload


@given(st.binary(max_size=200) | statements.map(encode_statement).map(lambda p: p.replace(b'"', b'" ')))
def test_other_bytes_are_no_record(payload: bytes) -> None:
    with pytest.raises(OpeningError):
        parse_statement(payload)


def test_deep_nesting_is_no_record() -> None:
    with pytest.raises(OpeningError):
        parse_statement(b'{"type":' + b"[" * 100_000)


@pytest.mark.parametrize("extra", [b',"zz":1}', b" }", b',"type":"exchange"}'])
def test_a_second_spelling_of_a_record_is_refused(extra: bytes) -> None:
    with pytest.raises(OpeningError):
        parse_statement(encode_statement(EXCHANGE)[:-1] + extra)


def test_the_right_opening_opens_the_leaf() -> None:
    opening = Opening(SALT, encode_statement(EXCHANGE))

    assert open_leaf(exchange_leaf(opening.commitment), opening) == EXCHANGE


@pytest.mark.parametrize(
    "other",
    [Opening(b"\1" + SALT[1:], encode_statement(EXCHANGE)), Opening(SALT, encode_statement(STATEMENTS["gap"]))],
)
def test_another_opening_does_not_open_the_leaf(other: Opening) -> None:
    leaf = exchange_leaf(Opening(SALT, encode_statement(EXCHANGE)).commitment)

    with pytest.raises(OpeningError, match="does not fit"):
        open_leaf(leaf, other)


def test_a_record_of_another_kind_than_its_leaf_does_not_open_it() -> None:
    opening = Opening(SALT, encode_statement(STATEMENTS["gap"]))

    with pytest.raises(OpeningError, match="another kind"):
        open_leaf(exchange_leaf(opening.commitment, LeafKind.EXCHANGE), opening)


def test_a_leaf_of_a_later_kind_opens_to_whatever_record_it_committed_to() -> None:
    opening = Opening(SALT, encode_statement(STATEMENTS["gap"]))

    assert STATEMENTS["gap"] == open_leaf(exchange_leaf(opening.commitment, 200), opening)


def test_commitments_of_the_golden_file_never_change(*, regenerate: bool) -> None:
    now = {
        name: {
            "salt": SALT.hex(),
            "payload": encode_statement(statement).decode(),
            "commitment": commit(SALT, encode_statement(statement)).hex(),
            "opening": Opening(SALT, encode_statement(statement)).encode().decode(),
        }
        for name, statement in STATEMENTS.items()
    }
    if regenerate:
        GOLDEN.write_text(json.dumps(now, indent=2) + "\n")

    golden = json.loads(GOLDEN.read_text())

    assert golden == now


def test_a_shell_and_sha256sum_are_enough_to_check_an_opening(tmp_path: Path) -> None:
    opening = Opening(SALT, encode_statement(EXCHANGE))
    (tmp_path / "opening").write_bytes(opening.encode())
    script = """
        payload=$(sed -n 's/^payload //p' opening | base64 -d | tee payload | wc -c)
        { printf 'airlock-commit-v1\\0'
          sed -n 's/^salt //p' opening | base64 -d
          printf '\\0\\0\\0\\0\\0\\0\\4\\0'
          printf "\\\\0\\\\0\\\\$(printf %o $((payload / 256)))\\\\$(printf %o $((payload % 256)))"
          cat payload
          head -c $((1024 - 4 - payload)) /dev/zero; } | sha256sum | cut -d' ' -f1
    """

    checked = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert opening.commitment.hex() == checked.stdout.strip()
