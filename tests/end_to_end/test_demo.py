"""`aegis demo --once` is the product's promise as one command: it must hold, and must fail when it does not."""

import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.conftest import AEGIS

pytestmark = pytest.mark.slow


def test_the_demo_shows_that_nothing_leaked_and_everything_is_proven(tmp_path: Path) -> None:
    demo = subprocess.run([*AEGIS, "demo", "--once", "--data", str(tmp_path)], capture_output=True, text=True)

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("✓ included in the tree") == 2
    assert "[EMAIL-" in demo.stdout
    assert "\x1b" not in demo.stdout
    assert max(map(len, demo.stdout.splitlines())) <= 100
    assert {"1.tlog-proof", "2.tlog-proof"} <= {path.name for path in tmp_path.iterdir()}


def test_the_demo_leaves_nothing_behind_but_compiled_expressions(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    demo = subprocess.run([*AEGIS, "demo", "--once"], capture_output=True, text=True, env=environment)

    assert demo.returncode == 0, demo.stdout + demo.stderr
    left = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {".cache/aegis/hyperscan"}  # made of our patterns only; the next start is a second faster
