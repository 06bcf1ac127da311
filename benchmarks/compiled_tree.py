"""The tree whose hot path is compiled (docs/adr/0034), for the rows beside the interpreted ones.

Built once into `.compiled/`, under a name that is a digest of what it is made from; older ones are removed.
"""

import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
_KEPT = ROOT / ".compiled"


def compiled_tree() -> Path:
    """Where it is. Raises RuntimeError with the reason there is none."""
    if next((ROOT / "sidecar").glob("*.so"), None) is not None:
        raise RuntimeError("this tree is compiled already: the rows of aegis are")
    if not (ROOT / ".git").exists():
        raise RuntimeError("not built outside of a clone of the repository")
    if not (shutil.which("gcc") or shutil.which("cc")):
        raise RuntimeError("not built: no C compiler")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise RuntimeError("not built: Python.h is missing (apt: python3-dev)")
    if importlib.util.find_spec("mypyc") is None or importlib.util.find_spec("setuptools") is None:
        raise RuntimeError("not built: mypyc is not installed (make setup)")
    tree = _KEPT / f"tree-{_digest()}"
    if not tree.exists():
        _build(tree)
    return tree


def _build(tree: Path) -> None:
    for older in _KEPT.glob("tree-*"):
        shutil.rmtree(older)
    unfinished = tree.with_suffix(".unfinished")
    Console(stderr=True).print("compiling the hot path for the rows beside: two minutes of CPU, once ...")
    built = subprocess.run(
        [sys.executable, ROOT / "scripts/build_compiled.py", unfinished], capture_output=True, text=True
    )
    if built.returncode:
        raise RuntimeError(f"not built: {built.stderr[-800:]}")
    unfinished.rename(tree)


def _digest() -> str:
    """Of the sources, the compiler's version and Python's."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    seen = hashlib.sha256(f"{sys.version} mypy {importlib.metadata.version('mypy')}".encode())
    for name in names:
        if name.endswith((".py", ".pyi", "pyproject.toml")) and not name.startswith(("tests/", "docs/")):
            path = ROOT / name
            seen.update(name.encode() + hashlib.sha256(path.read_bytes() if path.exists() else b"").digest())
    return seen.hexdigest()[:16]
