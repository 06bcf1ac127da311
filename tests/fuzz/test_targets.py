"""Runs every fuzz target beside this file for a bounded time, from the answers that the other tests use.

To look further: `python -m tests.fuzz.fuzz_json -max_total_time=3600 CORPUS`; a crash leaves its input as a file.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.ledger_seeds import ledger_seeds
from tests.fuzz.mux_seeds import mux_seeds
from tests.fuzz.tls_seeds import format_seeds, handshake_seeds

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOLDENS = ROOT / "tests" / "sidecar" / "dialects" / "goldens"
OWN_SEEDS = {
    "fuzz_ledger": ledger_seeds,
    "fuzz_mux": mux_seeds,
    "fuzz_tls_formats": format_seeds,
    "fuzz_tls_handshake": handshake_seeds,
}
SECONDS = int(os.environ.get("AEGIS_FUZZ_SECONDS", "20"))


def write_seeds(folder: Path, prefixes: range) -> None:
    """The golden answers and a few requests, once for each first byte that a target reads as a choice."""
    folder.mkdir()
    seeds = [path.read_bytes() for path in sorted(GOLDENS.iterdir())]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":["x",12345678]}'}}
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"J D": ["x", 1.0]}}
    parts = [{"role": "user", "content": [{"type": "text", "text": "x"}]}, {"role": "assistant", "tool_calls": [call]}]
    blocks = [{"role": "assistant", "content": [use, {"type": "thinking", "thinking": "x", "signature": "y"}]}]
    seeds += [json.dumps({"model": "m", "messages": m, "system": "s", "input": "i"}).encode() for m in (parts, blocks)]
    for number, seed in enumerate(seeds):
        for prefix in prefixes:
            (folder / f"{number}-{prefix}").write_bytes(bytes([prefix]) + seed)
        if not prefixes:
            (folder / str(number)).write_bytes(seed)


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.timeout(SECONDS * 3 + 60)
@pytest.mark.parametrize("target", sorted(path.stem for path in HERE.glob("fuzz_*.py")))
def test_fuzz_target_finds_nothing(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: .ci/install-fuzz")
    if target in OWN_SEEDS:
        (tmp_path / "seeds").mkdir()
        for number, seed in enumerate(OWN_SEEDS[target]()):
            (tmp_path / "seeds" / str(number)).write_bytes(seed)
    else:
        write_seeds(tmp_path / "seeds", range(8) if target == "fuzz_dialects" else range(0))
    (tmp_path / "corpus").mkdir()
    limits = [f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=16384"]
    words = f"-dict={HERE / 'wire.dict'}"

    run = subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.{target}", *limits, words, tmp_path / "corpus", tmp_path / "seeds"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr[-4000:]
    assert "DONE" in run.stderr
