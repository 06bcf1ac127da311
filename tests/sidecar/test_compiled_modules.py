"""Rules for the modules that may be compiled (docs/adr/0034): what mypyc reads differently from Python."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def compiled() -> list[Path]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    excluded = {path for pattern in hook["exclude"] for path in ROOT.glob(pattern)}
    return sorted({path for pattern in hook["include"] for path in ROOT.glob(pattern)} - excluded)


def functions(module: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_compile() -> None:
    assert ROOT / "sidecar/exchange.py" in compiled()


@pytest.mark.parametrize("module", compiled(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_catches_two_kinds_of_errors_under_one_name(module: Path) -> None:
    """The second would have to be of the first one's type."""
    for function in functions(module):
        names = [node.name for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name]
        assert len(names) == len(set(names)), function.name


@pytest.mark.parametrize("module", compiled(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_attribute_is_named_like_a_keyword_of_c(module: Path) -> None:
    """mypyc puts an underscore before attributes: `_thread` becomes `__thread`."""
    attributes = {node.attr for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)}
    assert not attributes & {"_thread", "_inline", "_const", "_asm", "_volatile"}
