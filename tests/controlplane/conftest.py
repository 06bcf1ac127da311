"""The databases that the policy store runs on."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.postgres import database, postgres_server, programs

_names = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A real server; see `tests.fakes.postgres.database`."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed; run .ci/install-postgres")
    with postgres_server(found) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.peers)])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Of an empty database, in either of the two that are supported."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/policies.db"
    return database(request.getfixturevalue("postgres"), f"db{next(_names)}")
