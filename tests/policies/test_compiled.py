"""Compiled expressions that are kept between processes."""

import hashlib
import os
from pathlib import Path
from typing import Any

import hyperscan
import pytest

from policies import compiled as module
from policies.compiled import Expression, Kept
from settings import shelf as files
from settings.shelf import Shelf

EXPRESSIONS: list[Expression] = [(b"patient", 1, 0), (rb"[0-9]{3}-[0-9]{2}", 2, hyperscan.HS_FLAG_SINGLEMATCH)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "hyperscan"


@pytest.fixture
def shelf(directory: Path) -> Shelf:
    return Shelf(directory)


def found(database: Any, data: bytes) -> set[int]:
    numbers: set[int] = set()
    database.scan(data, lambda number, *_: numbers.add(number), scratch=hyperscan.Scratch(database))
    return numbers


def kept(directory: Path) -> list[Path]:
    return sorted(directory.glob("*"))


def compiled(expressions: list[Expression], shelf: Shelf) -> Any:
    return Kept(shelf).compiled(expressions)


def compiles(monkeypatch: pytest.MonkeyPatch, shelf: Shelf | None, expressions: list[Expression]) -> bool:
    """Whether it had to be compiled again; it finds the same either way."""
    real, made = hyperscan.Database, []

    class Database(real):  # type: ignore[misc, valid-type]  # a C type
        def compile(self, **arguments: Any) -> None:
            made.append(1)
            super().compile(**arguments)

    monkeypatch.setattr(module.hyperscan, "Database", Database)
    database = Kept(shelf).compiled(expressions)
    monkeypatch.undo()
    assert found(database, b"the patient has 123-45") == {number for _, number, _ in expressions}
    return bool(made)


def test_what_was_compiled_once_is_loaded_the_next_time(
    monkeypatch: pytest.MonkeyPatch, shelf: Shelf, directory: Path
) -> None:
    assert compiles(monkeypatch, shelf, EXPRESSIONS)
    assert not compiles(monkeypatch, shelf, EXPRESSIONS)
    assert len(kept(directory)) == 1
    assert kept(directory)[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "other",
    [
        [(b"patients?", 1, 0), EXPRESSIONS[1]],
        [(b"patient", 3, 0), EXPRESSIONS[1]],
        [(b"patient", 1, hyperscan.HS_FLAG_CASELESS), EXPRESSIONS[1]],
        [EXPRESSIONS[1], EXPRESSIONS[0]],
    ],
)
def test_any_other_expression_number_flag_or_order_is_another_database(
    monkeypatch: pytest.MonkeyPatch, shelf: Shelf, other: list[Expression]
) -> None:
    compiled(EXPRESSIONS, shelf)

    assert compiles(monkeypatch, shelf, other)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"patient", b"patents")[:-1] + b"!"),
        lambda path: path.write_bytes(os.urandom(2000)),
        lambda path: path.chmod(0o666),
        lambda path: path.parent.chmod(0o777),
        lambda path: path.rename(path.with_name("aside")) and path.symlink_to(path.with_name("aside")),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["empty", "cut", "changed", "garbage", "writable", "directory writable", "link", "directory"],
)
def test_what_is_damaged_or_others_could_have_written_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, shelf: Shelf, directory: Path, spoil: Any
) -> None:
    """Hyperscan trusts a serialised database with its memory."""
    compiled(EXPRESSIONS, shelf)
    spoil(kept(directory)[0])

    assert compiles(monkeypatch, shelf, EXPRESSIONS)


def test_a_database_of_another_version_is_compiled_again(
    monkeypatch: pytest.MonkeyPatch, shelf: Shelf, directory: Path
) -> None:
    compiled(EXPRESSIONS, shelf)
    path = kept(directory)[0]
    body = bytearray(path.read_bytes()[32:])
    body[4:8] = b"\x01\x02\x03\x04"  # the version behind hyperscan's magic number
    path.write_bytes(hashlib.sha256(body).digest() + body)

    assert compiles(monkeypatch, shelf, EXPRESSIONS)


def test_a_disk_that_takes_nothing_costs_nothing_but_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for shelf in (None, Shelf(tmp_path / "file" / "x")):
        assert compiles(monkeypatch, shelf, EXPRESSIONS)
        assert compiles(monkeypatch, shelf, EXPRESSIONS)


def test_the_oldest_go_when_there_are_too_many(shelf: Shelf, directory: Path) -> None:
    for number in range(40):
        compiled([(b"word%d" % number, 1, 0)], shelf)

    assert len(kept(directory)) == 32


def test_a_file_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch, shelf: Shelf, directory: Path) -> None:
    compiled(EXPRESSIONS, shelf)
    monkeypatch.setattr(files, "MAX_SIZE", 100)

    assert shelf.load(kept(directory)[0].stem) is None
