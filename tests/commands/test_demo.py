"""What the demo calls a failure, and how it shows what it found."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from commands.demo.scene import Proof, Scene
from commands.demo.scenes import leaks
from commands.demo.view import scene_panel
from commands.screen import print_listing

LEAKED = "ann@example.com"
BODY = '{"messages":[{"role":"user","content":"Write to [EMAIL-7K2Q9F]."}]}'
PROOF = Proof(
    file=Path("1.tlog-proof"),
    index=1,
    size=2,
    root="ab" * 32,
    origin="aegis.internal/0011223344556677",
    result="forwarded",
    revision=1,
    findings={"EMAIL": 1},
    request_sha256=hashlib.sha256(BODY.encode()).hexdigest(),
)
SCENE = Scene(
    title="OpenAI SDK, streamed",
    identifiers=("ann@example.com",),
    sent="Write to ann@example.com.",
    seen="Write to [EMAIL-7K2Q9F].",
    seen_body=BODY,
    received="You said: Write to ann@example.com.",
    pieces=9,
    proof=PROOF,
)


def test_what_was_promised_is_no_failure() -> None:
    assert SCENE.failures() == []


@pytest.mark.parametrize(
    ("scene", "failure"),
    [
        (replace(SCENE, received="You said: Write to [EMAIL-7K2Q9F]."), "ann@example.com did not come back"),
        (
            replace(SCENE, seen_body=BODY.replace("[EMAIL-7K2Q9F]", "ann@example.com")),
            "ann@example.com reached the model",
        ),
        (replace(SCENE, proof=replace(PROOF, request_sha256="00" * 32)), "the audit leaf commits to other bytes"),
    ],
)
def test_what_was_not_kept_is_named_and_shown(scene: Scene, failure: str) -> None:
    assert any(found.startswith(failure) for found in scene.failures())
    assert f"✗ {failure}" in shown(scene)


def shown(scene: Scene) -> str:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(scene_panel(1, scene))
    return out.getvalue()


def test_an_identifier_in_a_file_is_named_and_a_file_that_is_gone_holds_none(tmp_path: Path) -> None:
    """The node removes what it has settled while the demo looks."""
    (tmp_path / "log").write_text("born 03/14/1961")

    assert leaks([tmp_path / "gone", tmp_path / "log"]) == [f"03/14/1961 stands in {tmp_path / 'log'}"]


def test_a_scene_fits_100_columns_and_needs_no_colour() -> None:
    text = shown(SCENE)

    assert "\x1b" not in text
    assert {100} == set(map(len, text.splitlines()))
    for part in ("ann@example.com", "[EMAIL-7K2Q9F]", "in 9 pieces", "leaf #1 of 2", "EMAIL 1", "root abababab"):
        assert part in text


def test_an_address_longer_than_the_screen_is_neither_cut_nor_wrapped() -> None:
    out, command = io.StringIO(), "aegis policy status --identity /" + "directory/" * 20
    screen = Console(file=out, width=40, highlight=False)

    print_listing(screen, "To look at", [("policies", command), ("a longer name", "[brackets]")])

    assert out.getvalue().splitlines()[1:] == [f"  policies       {command}", "  a longer name  [brackets]"]
