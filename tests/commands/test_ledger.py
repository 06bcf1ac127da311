"""`aegis ledger` from the command line: what it prints, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from commands.ledger import command
from ledger.keys import parse_vkey

ROOT = Path(__file__).resolve().parents[2]


def aegis(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "aegis", "ledger", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )


def test_init_prints_the_keys_that_auditors_need(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["init", "--data", str(tmp_path / "data"), "--origin", "forest.example/a"])

    assert result.exit_code == 0
    keys = [parse_vkey(line.removeprefix("log ")) for line in result.stdout.splitlines() if line.startswith("log ")]
    assert [key.name for key in keys] == ["forest.example/a"] * 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["init", "--data", "OCCUPIED"], "not empty"),
        (["init", "--data", "NEW", "--origin", "a b"], "cannot be the origin"),
        (["init"], "--data"),
        (["run", "--data", "NEW", "--insecure-loopback", "--grpc", "0.0.0.0:1"], "other machines"),
        (["run", "--data", "NEW"], "--insecure-loopback"),
    ],
)
def test_wrong_usage_says_what_is_wrong(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied/file").touch()
    stands_for = {"OCCUPIED": str(tmp_path / "occupied"), "NEW": str(tmp_path / "new")}

    result = CliRunner().invoke(command, [stands_for.get(argument, argument) for argument in arguments])

    assert result.exit_code != 0
    assert complaint in result.stderr


@pytest.mark.slow
def test_node_says_when_it_is_ready_and_ends_well_when_told(tmp_path: Path) -> None:
    doors = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--insecure-loopback")
    node = aegis("run", "--data", tmp_path / "data", "--init-if-missing", "--origin", "forest.example/a", *doors)
    assert node.stdout is not None
    assert "ready" in (line := node.stdout.readline())
    assert "forest.example/a, 0 leaves" in line

    second = aegis("run", "--data", tmp_path / "data", *doors)
    _, complaint = second.communicate(timeout=30)
    assert second.returncode == 1
    assert complaint.splitlines()[-1].startswith("Error: another process has the log")

    node.send_signal(signal.SIGTERM)
    _, errors = node.communicate(timeout=30)
    assert node.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.slow
def test_node_without_a_log_says_how_to_make_one(tmp_path: Path) -> None:
    node = aegis("run", "--data", tmp_path / "data", "--insecure-loopback")
    _, complaint = node.communicate(timeout=30)

    assert node.returncode == 1
    assert "aegis ledger init" in complaint
