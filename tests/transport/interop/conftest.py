"""The laboratory, and the matrix at the end of the run."""

from collections.abc import Iterator

import pytest

from tests.transport.interop.lab import Lab
from tests.transport.interop.scenarios import SCENARIOS

CELL = "interop cell"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Certificates, keys and a folder, once for the run."""
    return Lab(tmp_path_factory.mktemp("interop"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Who understood whom, in one table."""
    cells: dict[tuple[str, str], str] = {}
    for outcome, mark in (("passed", "ok"), ("skipped", "skip"), ("failed", "FAIL")):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, (pair, scenario) in getattr(report, "user_properties", ()):
                if name == CELL:
                    cells[pair, scenario] = mark
    if cells:
        terminalreporter.section("who understands whom: client -> server")
        for line in _table(cells):
            terminalreporter.write_line(line)


def _table(cells: dict[tuple[str, str], str]) -> Iterator[str]:
    columns = [scenario.name for scenario in SCENARIOS]
    pairs = list(dict.fromkeys(pair for pair, _ in cells))
    width = max(map(len, pairs))
    yield " ".join([" " * width, *(f"{column:>10}" for column in columns)])
    for pair in pairs:
        yield " ".join([f"{pair:<{width}}", *(f"{cells.get((pair, column), '-'):>10}" for column in columns)])
