"""`aegis policy` as an operator uses it, against a real control plane."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aegispb.v1 import discovery_pb2 as pb
from click.testing import CliRunner, Result
from google.rpc import status_pb2

from aegis import main
from controlplane.identity.ca import LocalAuthority
from tests.controlplane.plane import Plane, now, running

HEAD = "apiVersion: aegis.mesh/v1\n"
MODEL = HEAD + "kind: Upstream\nmetadata: {name: model}\nspec: {url: http://127.0.0.1:8000}\n"
AIRLOCK = HEAD + "kind: AirlockPolicy\nmetadata: {name: hipaa}\nspec:\n  profile: hipaa_safe_harbor\n"
ROUTE = HEAD + "kind: Route\nmetadata: {name: all}\nspec: {prefix: /, upstream: model, airlock: hipaa}\n"
EXAMPLES = Path(__file__).parents[2] / "examples/policies"

Aegis = Callable[..., Any]


def run(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
    return CliRunner().invoke(main, ["policy", *arguments], input=stdin, env=environment)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
def aegis(plane: Plane, tmp_path: Path) -> Aegis:
    plane.identity("operator/alice").write(tmp_path / "operator")
    environment = {"AEGIS_POLICY_SERVER": plane.address, "AEGIS_POLICY_IDENTITY": str(tmp_path / "operator")}

    async def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return await asyncio.to_thread(run, *arguments, stdin=stdin, **environment)

    return invoke


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "all.yaml").write_text(f"{MODEL}---\n{AIRLOCK}---\n{ROUTE}")
    return directory


def test_examples_are_valid() -> None:
    for example in EXAMPLES.glob("*.yaml"):
        result = run("validate", str(example))
        assert (result.exit_code, "no findings" in result.output) == (0, True), result.output


def test_findings_show_the_line_they_are_about_and_what_to_do() -> None:
    result = run("validate", "-", stdin=AIRLOCK.replace("profile", "profle"))

    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "-:5:3: spec.profile: is missing"
    assert "-:5:3: spec.profle: unknown field" in lines
    at = lines.index("-:5:3: spec.profle: unknown field")
    assert lines[at + 1 : at + 4] == [
        "     5 │   profle: hipaa_safe_harbor",
        "       │   ^",
        "       did you mean profile?",
    ]
    assert lines[-1] == "2 findings"


def test_findings_as_json() -> None:
    result = run("validate", "--json", "-", stdin=AIRLOCK.replace("hipaa_safe_harbor", "hippa"))

    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["line"], finding["field"]) == (5, "spec.profile")
    assert result.exit_code == 1


@pytest.mark.parametrize("arguments", [("validate",), ("validate", "/nonexistent.yaml"), ("rollback", "0"), ("pshu",)])
def test_command_that_was_not_understood_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("stdin", "complaint"),
    [(b"kind: \xff", "-: not UTF-8 text"), ("\u00fc".encode() * (1 << 20), "-: larger than 1048576 bytes")],
    ids=["no text", "too much of it"],
)
def test_standard_input_that_is_no_page_of_text_is_wrong_usage(stdin: bytes, complaint: str) -> None:
    result = run("validate", "-", stdin=stdin)

    assert (result.exit_code, complaint in result.output) == (2, True), result.output


def test_schema_is_printed_as_json() -> None:
    assert json.loads(run("schema").stdout)["$schema"].endswith("2020-12/schema")


async def test_push_then_status_then_rollback(aegis: Aegis, policies: Path, plane: Plane) -> None:
    pushed = await aegis("push", str(policies), "--reason", "first day")
    assert pushed.exit_code == 0, pushed.output
    assert "+ Upstream/model created" in pushed.stdout
    assert "3 changes; revision 1 is in force" in pushed.stdout

    (policies / "all.yaml").write_text("---\n".join([MODEL, AIRLOCK.replace("hipaa_safe_harbor", "pci"), ROUTE]))
    compared = await aegis("diff", str(policies))
    assert "    -  profile: hipaa_safe_harbor" in compared.stdout
    assert "    +  profile: pci" in compared.stdout
    assert "1 change; against revision 1" in compared.stdout

    assert (await aegis("push", str(policies), "--expect-revision", "1")).exit_code == 0
    restored = await aegis("rollback", "1")
    assert "~ AirlockPolicy/hipaa changed" in restored.stdout
    assert "revision 3 is in force, as 1 was" in restored.stdout

    history = (await aegis("history")).stdout
    assert "rollback to revision 1" in history
    assert "spiffe://test.local/operator/alice" in history
    assert "nothing differs" in (await aegis("rollback", "1")).stdout


async def test_listed_yaml_can_be_pushed_again(aegis: Aegis, policies: Path) -> None:
    await aegis("push", str(policies))
    listed = await aegis("list", "--yaml")

    again = await aegis("push", "-", "--prune", stdin=listed.stdout)

    assert "nothing differs; revision 1 is in force" in again.stdout


async def test_refused_push_shows_findings_with_their_lines_and_ends_with_1(aegis: Aegis, policies: Path) -> None:
    (policies / "all.yaml").write_text(ROUTE)

    result = await aegis("push", str(policies))

    assert result.exit_code == 1
    assert "there is no Upstream 'model'" in result.stderr
    assert "│ spec: {prefix: /, upstream: model, airlock: hipaa}" in result.stderr


async def test_status_shows_who_refused_what_and_why(aegis: Aegis, policies: Path, plane: Plane) -> None:
    await aegis("push", str(policies))
    stream = plane.stream("ns/clinic/sa/notes")
    await stream.hello(node="notes-7d9f")
    for _ in range(3):
        delta = await stream.delta()
        why = pb.Rejected(name="hipaa", why=status_pb2.Status(code=13, message="cannot be built: MemoryError"))
        await stream.ack(delta, *([why] if delta.type_url.endswith("AirlockPolicy") else []))
    assert (await stream.read()).HasField("heartbeat")

    result = await aegis("status", "--resources")

    assert result.exit_code == 1
    assert "revision 1 · 1 of 1 sidecars connected · 1 refuse something · 1 behind" in result.stdout
    assert "spiffe://test.local/ns/clinic/sa/notes" in result.stdout
    assert "2/3 in force, 1 refused" in result.stdout
    assert "INTERNAL: cannot be built: MemoryError" in result.stdout
    parsed = json.loads((await aegis("status", "--json")).stdout)
    assert parsed["nodes"][0]["connected"] is True


async def test_status_of_a_healthy_mesh_is_one_green_line_and_a_table(
    aegis: Aegis, policies: Path, plane: Plane
) -> None:
    await aegis("push", str(policies))
    stream = plane.stream()
    await stream.hello()
    await stream.synced()

    result = await aegis("status")

    assert result.exit_code == 0
    assert "revision 1 · 1 of 1 sidecars connected · all up to date" in result.stdout
    assert "3/3 in force" in result.stdout


async def test_conflicting_push_says_what_to_do(aegis: Aegis, policies: Path) -> None:
    await aegis("push", str(policies))

    result = await aegis("push", str(policies), "--expect-revision", "0")

    assert result.exit_code == 1
    assert "the newest revision is 1; look at it with `aegis policy diff` and push again" in result.stderr


async def test_wrong_certificate_says_what_to_do(plane: Plane, tmp_path: Path) -> None:
    plane.identity("sidecar/one").write(tmp_path / "sidecar")

    result = await asyncio.to_thread(run, "status", "--server", plane.address, "--identity", str(tmp_path / "sidecar"))

    assert result.exit_code == 1
    assert "use a certificate for spiffe://test.local/operator/..." in result.stderr


def test_absent_control_plane_and_absent_identity_say_what_to_do(tmp_path: Path) -> None:
    missing = run("status", "--identity", str(tmp_path / "none"))
    assert missing.exit_code == 1
    assert "--identity names the directory" in missing.stderr

    LocalAuthority.open_or_create(tmp_path / "ca", "test.local", now()).issue("operator/a", now=now()).write(tmp_path)
    absent = run("status", "--identity", str(tmp_path), "--server", "127.0.0.1:1")
    assert absent.exit_code == 1
    assert "no control plane answers at 127.0.0.1:1" in absent.stderr


@pytest.mark.slow
def test_validating_needs_neither_grpc_nor_a_server() -> None:
    code = """
import sys
from aegis import main
main(["policy", "validate", sys.argv[1]], standalone_mode=False)
assert "grpc" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code, str(EXAMPLES)], capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
