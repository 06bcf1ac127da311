"""Dead letters on disk: sealed, bounded, whole after a crash, and never a text in the clear."""

import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.vault import FILE, KEY_FILE, DeadLetter, DeadLetterVault, VaultError, VaultLimits
from policies.mathprotocol.chain import Failed, Failure, Given
from policies.mathprotocol.composite import Stage, plan

CANARY = "MRN 48392117"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def letter(number: int, at: float = 1_000_000.0, text: str = CANARY) -> DeadLetter:
    given = (Given(Stage(19, 1), f"9-128 | {text}", cached=False),)
    return DeadLetter(
        f"{number:016x}", at, plan(f"[19-1]->[3-1] | {text}"), Failed(Stage(3, 1), Failure.INVALID, given)
    )


def vault(directory: Path, key: bytes = bytes(32), clock: Clock | None = None, **limits: Any) -> DeadLetterVault:
    return DeadLetterVault(directory / FILE, key, VaultLimits(**limits), now=clock or Clock(), random=os.urandom)


def ids(of: DeadLetterVault) -> list[int]:
    return [int(summary["id"], 16) for summary in of.summaries()]


def test_letter_is_read_back_whole_by_the_next_process(tmp_path: Path) -> None:
    first = vault(tmp_path)
    assert first.keep(letter(1))
    first.close()

    again = vault(tmp_path)

    assert again.get(letter(1).id) == {**letter(1).summary(), **letter(1).said()}
    assert again.summaries() == [letter(1).summary()]
    assert again.get("none") is None


def test_no_text_stands_in_any_file_or_summary(tmp_path: Path) -> None:
    kept = DeadLetterVault.open(tmp_path / "data", VaultLimits())
    kept.keep(letter(1))
    kept.close()

    files = list((tmp_path / "data").iterdir())

    assert {FILE, KEY_FILE} <= {file.name for file in files}
    assert not any(CANARY.encode() in file.read_bytes() for file in files)
    assert CANARY not in repr(letter(1)) + json.dumps(letter(1).summary())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_oldest_make_room_by_number_by_bytes_and_by_age(tmp_path: Path) -> None:
    clock = Clock()
    few = vault(tmp_path / "few", letters=2)
    small = vault(tmp_path / "small", size=2500)
    short = vault(tmp_path / "short", clock=clock, age=100.0)

    for number in range(4):
        few.keep(letter(number))
        small.keep(letter(number, text="x" * 400))
        short.keep(letter(number, at=clock.now + 30 * number))
    clock.now += 140

    assert ids(few) == [3, 2]
    assert ids(small) == [3, 2]
    assert ids(short) == [3, 2]
    assert short.get(letter(1).id) is None, "not even before it was deleted"
    short.expire()
    rows = sqlite3.connect(tmp_path / "short" / FILE).execute("SELECT count(*) FROM letters").fetchone()
    assert rows == (2,)


def test_letter_beyond_the_bounds_is_not_kept_and_drives_nobody_out(tmp_path: Path) -> None:
    none, small = vault(tmp_path / "none", letters=0), vault(tmp_path / "small", size=2000)
    small.keep(letter(1))

    assert not none.keep(letter(1))
    assert not small.keep(letter(2, text="x" * 5000))
    assert (ids(none), ids(small)) == ([], [1])


@pytest.mark.parametrize("change", ["key", "sealed", "summary"])
def test_letter_that_was_changed_or_sealed_by_another_is_an_error_and_stays_listed(tmp_path: Path, change: str) -> None:
    vault(tmp_path).keep(letter(1))
    database = sqlite3.connect(tmp_path / FILE)
    if change == "sealed":
        database.execute("UPDATE letters SET sealed = sealed || x'00'")
    if change == "summary":
        database.execute("UPDATE letters SET summary = replace(summary, 'stage_invalid_answer', 'stage_refused')")
    database.commit()

    again = vault(tmp_path, key=bytes(31) + b"\1" if change == "key" else bytes(32))

    with pytest.raises(VaultError, match="another key") as error:
        again.get(letter(1).id)
    assert CANARY not in str(error.value)
    assert len(again.summaries()) == 1


def test_failure_in_the_middle_leaves_nothing_and_the_vault_usable(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    kept.keep(letter(1))

    with pytest.raises(VaultError, match="cannot be written"):
        kept.keep(letter(1))  # the same id
    assert kept.keep(letter(2))

    assert ids(kept) == [2, 1]


def test_full_disk_is_an_error_and_what_was_kept_stays(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    kept.keep(letter(1))
    (pages,) = kept._connection.execute("PRAGMA page_count").fetchone()
    kept._connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(VaultError, match="SQLITE_FULL"):
        kept.keep(letter(2, text="x" * 50_000))
    kept._connection.execute("PRAGMA max_page_count = 100000")

    assert kept.keep(letter(3))
    assert ids(kept) == [3, 1]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 20, None])
def test_what_is_no_vault_of_ours_is_refused_and_named(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        database = sqlite3.connect(tmp_path / FILE)
        database.execute("PRAGMA user_version = 99")
        database.commit()
    else:
        (tmp_path / FILE).write_bytes(content)

    with pytest.raises(VaultError, match=FILE):
        vault(tmp_path)


def test_damaged_list_is_an_error_without_what_stands_there(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    kept.keep(letter(1))
    for damage in ("'{'", "CAST(x'ff20' || CAST(summary AS BLOB) AS TEXT)"):
        kept._connection.execute(f"UPDATE letters SET summary = {damage}")  # noqa: S608 from two lines above

        with pytest.raises(VaultError) as error:
            kept.summaries()

        assert "stage_invalid" not in str(error.value)


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(bytes(32))
    (tmp_path / KEY_FILE).chmod(0o644)

    with pytest.raises(VaultError, match="chmod 600"):
        DeadLetterVault.open(tmp_path, VaultLimits())


def test_two_processes_may_keep_letters_in_one_vault(tmp_path: Path) -> None:
    one, other = vault(tmp_path), vault(tmp_path)

    one.keep(letter(1))
    other.keep(letter(2))

    assert ids(one) == ids(other) == [2, 1]
