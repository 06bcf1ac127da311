"""What a leaf commits to, and what is kept to make it again."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.commitment import parse_statement
from policies.model import DialectName, ExchangeId, ResultCode, UnixNanos
from sidecar.audit.errors import SpoolError
from sidecar.audit.statements import (
    Gap,
    Item,
    ended_us_of_kept,
    exchange_of_kept,
    join_kept,
    keep,
    keep_payloads,
    payload_of_kept,
    payloads_of,
    read_kept,
)
from sidecar.ports import AuditEntry
from tests.fakes.entries import audit_entry

times = st.integers(0, 2**53).map(lambda us: UnixNanos(us * 1000 + 7))
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
entries = st.builds(
    AuditEntry,
    exchange=(text | st.from_regex(r"[0-9a-f]{26}", fullmatch=True)).map(ExchangeId),
    dialect=st.sampled_from(DialectName),
    route=text,
    result=st.sampled_from(ResultCode),
    status=st.integers(0, 999),
    policy_revision=st.integers(0, 2**64 - 1),
    task=st.integers(0, 10**6),
    started_at=times,
    ended_at=times,
    request_digest=st.binary(min_size=32, max_size=32),
    response_digest=st.binary(min_size=32, max_size=32),
    findings=st.dictionaries(text, st.integers(0, 10**6), max_size=3),
)
gaps = st.builds(Gap, st.integers(1, 10**9), st.sampled_from(["queue_full", "spool_full"]), times, times)


@given(st.lists(entries | gaps, max_size=5))
def test_what_is_kept_makes_the_same_payloads_again(items: list[Item]) -> None:
    kept = read_kept(keep(items))

    assert payloads_of(items) == [payload_of_kept(one) for one in kept]
    assert [getattr(item, "exchange", "") for item in items] == [exchange_of_kept(one) for one in kept]


@given(entries)
def test_a_payload_is_canonical_and_says_what_the_entry_says(entry: AuditEntry) -> None:
    """Also where it was put together without the encoder: `parse_statement` refuses any other spelling."""
    (payload,) = payloads_of([entry])

    statement = parse_statement(payload)

    assert (entry.exchange, entry.route, dict(entry.findings), entry.request_digest.hex()) == (
        *(statement.exchange, statement.route, statement.findings, statement.request_sha256),  # type: ignore[union-attr]
    )


def test_an_erased_opening_has_no_payload() -> None:
    erased, other = read_kept(keep_payloads([None, audit_entry(1)]))

    assert (exchange_of_kept(erased), ended_us_of_kept(erased)) == ("", 0)
    assert exchange_of_kept(other) == audit_entry(1).exchange
    with pytest.raises(ValueError, match="erased"):
        payload_of_kept(erased)


@given(st.binary(max_size=60))
def test_garbage_gives_only_a_spool_error(data: bytes) -> None:
    with suppress(SpoolError):
        read_kept(data)


def test_a_damaged_batch_is_not_quoted() -> None:
    data = keep([audit_entry()]).replace(b"openai", b"\xff\xfe\xfd\xfc\xfb\xfa")

    with pytest.raises(SpoolError, match=r"^the openings of a batch are damaged$"):
        read_kept(data)


def test_the_bytes_on_disk_never_change() -> None:
    """`SCHEMA_VERSION` must change when these do."""
    entry = audit_entry()._replace(request_digest=b"q" * 32, response_digest=b"a" * 32)

    assert keep([entry]).hex() == (
        "919cba30314a4430303030303030303030303030303030303030303030ab6f70656e61692e63686174a66f70656e616900ccc807"
        "00cf18e997c544a70000cf18e997c5538db280c420" + "71" * 32 + "c420" + "61" * 32 + "81a675735f73736e01"
    )


@given(st.lists(st.lists(entries | gaps, min_size=1, max_size=20), min_size=1, max_size=4))
def test_parts_joined_are_what_is_kept_of_all(parts: list[list[Item]]) -> None:
    assert join_kept([keep(part) for part in parts]) == keep([item for part in parts for item in part])


def test_many_parts_are_joined_too() -> None:
    parts = [[audit_entry(n)] * 16 for n in range(64)]

    assert read_kept(join_kept([keep(part) for part in parts])) == read_kept(keep([e for part in parts for e in part]))
