"""Fixtures that every suite uses."""

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes.ports import reserved_ports

SHARED = Path(__file__).resolve().parents[2] / "shared"

# looptime asks the policy for a loop in sync tests and leaks it on Python 3.11, which filterwarnings=error turns
# into a failed run; an explicit None keeps it from creating one.
asyncio.set_event_loop(None)

# No test is timed: on a busy machine one example takes its 200 ms without anything being wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The conformance vectors and development corpora that stand beside this checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no conformance data at {SHARED}")
    return SHARED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With AEGIS_REQUIRE_PEERS a skipped peer is a failure: what .ci/run installed must have been run."""
    report = yield
    if report.skipped and os.environ.get("AEGIS_REQUIRE_PEERS") and item.get_closest_marker("peers"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must run where AEGIS_REQUIRE_PEERS is set, but: {reason}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the golden files instead of comparing with them")


@pytest.fixture
def regenerate(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written anew, for a person to review."""
    return bool(request.config.getoption("--regenerate"))


@pytest.fixture
def free_ports() -> list[int]:
    """Four TCP ports of 127.0.0.1 for processes that have to be told theirs."""
    return reserved_ports(4)
