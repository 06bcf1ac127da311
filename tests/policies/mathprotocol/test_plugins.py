"""Specification section 6, Task plugins: the manifest and the resolver, before any code runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.mathprotocol.codes import DEFAULT_TRAPS
from policies.mathprotocol.manifest import Limits, Manifest, ManifestError, is_met, read_manifest, rendered, version_of
from policies.mathprotocol.resolver import ResolutionError, resolve


def toml(name: str = "one", prime: int = 31, version: str = "1.0.0", extra: str = "") -> bytes:
    return f"""
[plugin]
name = "{name}"
version = "{version}"
api = 1
[[task]]
prime = {prime}
name = "T"
kind = "classification"
params = [1]
entry = "main:answer"
{extra}
""".encode()


def manifest(name: str = "one", prime: int = 31, version: str = "1.0.0", **needs: str) -> Manifest:
    lines = "".join(f'\n{other} = "{requirement}"' for other, requirement in needs.items())
    return read_manifest(toml(name, prime, version, "[dependencies]" + lines))


def test_manifest_is_read_with_its_defaults() -> None:
    read = read_manifest(toml(extra="[limits]\nwall_seconds = 0.5"))

    assert (read.name, read.version, read.api) == ("one", (1, 0, 0), 1)
    assert read.tasks[0].entry == "main:answer"
    assert read.limits == Limits(wall_seconds=0.5)


def test_every_fault_is_named_at_once() -> None:
    raw = b"""
colour = 1
[plugin]
name = "Bad Name"
version = "one"
api = 99
[[task]]
prime = 4
name = ""
kind = "magic"
params = [4]
entry = "os.system"
template = "x"
[dependencies]
other = "about 2"
[limits]
memory_mib = 1000000
threads = 4
"""
    with pytest.raises(ManifestError) as refused:
        read_manifest(raw)

    places = [fault.split(": ")[0] for fault in refused.value.faults]
    assert len(refused.value.faults) == 14
    assert {"colour", "plugin.name", "plugin.api", "task 1", "dependencies.other", "limits.threads"} <= set(places)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[plugin",
        b"x = 1",
        b"task = [1]\n[plugin]",
        b"a=" + b"[" * 5000,
        b"#" * 100_000,
        b"a=" + b"1" * 5000,
    ],
)
def test_garbage_gives_only_our_error(raw: bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifest(raw)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"task = [1]\nlimits = 1\ndependencies = 2", "[plugin]: is missing"),
        (b"task = [1]\nlimits = 1\ndependencies = 2", "task 1: expected a table"),
        (b"task = [1]\nlimits = 1\ndependencies = 2", "limits: expected a table"),
        (b"task = [1]\nlimits = 1\ndependencies = 2", "dependencies: expected a table"),
        (toml(extra='[dependencies]\n"Bad Name" = ">=1"'), "dependencies.Bad Name: no plugin can have this name"),
        (toml(extra="[limits]\nwall_seconds = nan"), "limits.wall_seconds"),
        (toml(extra="[limits]\nmemory_mib = true"), "limits.memory_mib"),
        (toml().replace(b'entry = "main:answer"', b'template = "no place for it"'), "template: expected"),
    ],
)
def test_fault_is_named(raw: bytes, fault: str) -> None:
    with pytest.raises(ManifestError) as refused:
        read_manifest(raw)

    assert any(named.startswith(fault) or fault in named for named in refused.value.faults)


def test_template_instead_of_code() -> None:
    raw = toml().replace(b'entry = "main:answer"', b'template = "Rhyme on: {context}"')

    assert read_manifest(raw).tasks[0].template == "Rhyme on: {context}"


@given(st.binary(max_size=60), st.sampled_from([b"limits", b"dependencies", b"plugin", b"task"]))
def test_garbage_around_a_table_gives_only_our_error(raw: bytes, table: bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifest(toml() + b"\n[" + table + b"]\n" + raw + b"\nunknown = 1")


@pytest.mark.parametrize(
    ("requirement", "version", "met"),
    [
        (">=1.0, <2", "1.9.9", True),
        (">=1.0, <2", "2", False),
        ("==1.2", "1.2.0", True),
        ("!=1.2", "1.2", False),
        (">1", "1.0.1", True),
        ("<2, !=1.5", "1.5", False),
        ("<=1", "1.0.1", False),
        (">=1.10", "1.9", False),  # numbers, not texts
    ],
)
def test_requirements(requirement: str, version: str, *, met: bool) -> None:
    assert is_met(requirement, version_of(version)) is met


def test_template_takes_context_once_and_context_is_not_a_template() -> None:
    assert rendered("Say: {context}!", "{context} {x}") == "Say: {context} {x}!"


def test_dependencies_load_first() -> None:
    resolution = resolve([manifest("a", 31, b=">=1"), manifest("b", 37, c=">=1"), manifest("c", 41)], DEFAULT_TRAPS)

    assert [plugin.name for plugin in resolution.order] == ["c", "b", "a"]
    assert {prime: plugin.name for prime, (plugin, _) in resolution.tasks.items()} == {31: "a", 37: "b", 41: "c"}


@pytest.mark.parametrize(
    ("manifests", "conflict"),
    [
        ([manifest("a", 43)], "prime 43 is a trap and can never be a task"),
        ([manifest("a", 2)], "prime 2 is a task of the protocol itself"),
        ([manifest("a"), manifest("b")], "plugins a and b both ask for prime 31"),
        ([manifest("a"), manifest("a", 37)], "plugin a is there 2 times"),
        ([manifest("a", b=">=1")], "needs b >=1, which is not there"),
        ([manifest("a", b=">=2"), manifest("b", 37)], "needs b >=2, but 1.0.0 is there"),
        ([manifest("a", b=">=1"), manifest("b", 37, a=">=1")], "a, b depend on each other in a circle"),
    ],
)
def test_conflict_is_named(manifests: list[Manifest], conflict: str) -> None:
    with pytest.raises(ResolutionError) as refused:
        resolve(manifests, DEFAULT_TRAPS)

    assert any(conflict in named for named in refused.value.conflicts)
