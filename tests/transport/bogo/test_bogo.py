"""BoGo against our engine: peers that each break one rule of TLS 1.3, and expect the right alert.

What we do differently on purpose, or do not have, is in `config.json` with the reason; flags of the runner that ask for
more than the engine has are not implemented by the shim. The runner is installed by `.ci/install-tls-runner`.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PLACE = Path(os.environ.get("AEGIS_PEERS", Path.home() / ".cache" / "aegis-peers")) / "bogo"
LEAST_PASSED = 270
"""276 pass now; fewer would mean that the shim skips what it should not."""


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(900)
def test_every_conformance_test_that_applies_passes(tmp_path: Path) -> None:
    if not (PLACE / "bogo").exists():
        pytest.skip("BoGo is not installed: .ci/install-tls-runner")
    shim = tmp_path / "shim"
    shim.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "{HERE / "shim.py"}" "$@"\n')
    shim.chmod(0o700)
    results = tmp_path / "results.json"
    paths = ["-shim-path", shim, "-shim-config", HERE / "config.json", "-resource-dir", PLACE, "-json-output", results]

    run = subprocess.run(
        [PLACE / "bogo", *paths, "-allow-unimplemented", "-loose-errors", "-pipe", "-num-workers", "2"],
        cwd=PLACE,
        capture_output=True,
        text=True,
    )

    failed = run.stdout[run.stdout.find("\nFAILED (") :] if "\nFAILED (" in run.stdout else ""
    assert run.returncode == 0, failed[:20_000] or run.stdout[-2000:] + run.stderr[-2000:]
    outcomes = Counter(test["actual"] for test in json.loads(results.read_text())["tests"].values())
    assert outcomes["PASS"] >= LEAST_PASSED, outcomes
