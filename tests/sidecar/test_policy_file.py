"""`--policy-file`: policies without a control plane."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from policies.compile import compile_documents
from policies.snapshot import PolicySnapshot
from policies.spec import Source
from policies.spec_load import load
from sidecar.policy_file import MAX_FILE, MAX_FILES, PolicyFile, UnreadableSourceError, read_sources

POLICY = """apiVersion: aegis.mesh/v1
kind: Upstream
metadata: {name: model}
spec: {url: http://127.0.0.1:8000}
---
apiVersion: aegis.mesh/v1
kind: Route
metadata: {name: all}
spec: {prefix: /, upstream: model, airlock: none}
"""


def compiled(sources: Sequence[Source], revision: int) -> PolicySnapshot:
    return compile_documents(load(sources), bytes(32), revision=revision, source="file")


def write(path: Path, text: str, at: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(at * 10**9, at * 10**9))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    write(file, POLICY, at=1000)
    return file


async def test_policy_file_is_in_force_once_loaded(path: Path) -> None:
    source = PolicyFile([path], compiled)
    assert source.current is None
    assert source.blocker == "the policy file was not read yet"

    await source.load()

    assert source.current is not None
    assert (source.current.revision, source.current.source, source.blocker) == (1000, "file", "")


async def test_changed_file_is_taken_up_under_a_higher_revision(path: Path) -> None:
    source = PolicyFile([path], compiled)
    await source.load()

    write(path, POLICY.replace("prefix: /", "prefix: /openai"), at=999)  # a restored backup is older
    await source.load()

    assert source.current is not None
    assert source.current.routes[0].prefix == "/openai"
    assert source.current.revision == 1001


async def test_unchanged_file_is_not_compiled_again(path: Path) -> None:
    source = PolicyFile([path], compiled)
    await source.load()
    first = source.current

    await source.load()

    assert source.current is first


async def test_change_that_cannot_be_built_for_an_unforeseen_reason_leaves_the_last_good_policy_in_force(
    path: Path,
) -> None:
    def fragile(sources: Sequence[Source], revision: int) -> PolicySnapshot:
        if "/openai" in sources[0].text:
            raise ValueError(sources[0].text)
        return compiled(sources, revision)

    source = PolicyFile([path], fragile)
    await source.load()
    first = source.current

    write(path, POLICY.replace("prefix: /", "prefix: /openai"), at=1001)
    await source.load()

    assert source.current is first
    assert source.problem == "the policy files cannot be built: ValueError"


@pytest.mark.parametrize("broken", ["kind: Nonsense", ": [", "", "\xff"])
async def test_broken_change_leaves_the_last_good_policy_in_force(path: Path, broken: str) -> None:
    source = PolicyFile([path], compiled)
    await source.load()
    first = source.current

    path.write_bytes(broken.encode("latin-1"))
    await source.load()

    assert source.current is first
    assert source.problem
    assert source.blocker == ""

    write(path, POLICY, at=2000)
    await source.load()
    assert source.problem == ""


async def test_file_that_vanished_is_read_again_once_it_is_back(path: Path) -> None:
    source = PolicyFile([path], compiled)
    await source.load()

    path.rename(path.with_suffix(".away"))
    await source.load()
    assert "No such file" in source.problem

    path.with_suffix(".away").rename(path)
    await source.load()
    assert source.current is not None


async def test_first_error_is_a_named_blocker_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace("airlock: none", "airlok: none"))
    source = PolicyFile([path], compiled)

    await source.load()

    assert source.current is None
    assert f"{path}:9:36: spec.airlok: unknown field; did you mean airlock?" in source.blocker


async def test_file_is_watched(path: Path) -> None:
    source = PolicyFile([path], compiled)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(source.run(0.001))
        async with asyncio.timeout(10):
            while source.current is None:
                await asyncio.sleep(0.001)
        watching.cancel()


def test_directories_are_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.txt", ".hidden.yaml", "..2026_11/b.yaml", "sub/d.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)

    assert [source.text for source in read_sources([tmp_path])] == ["a.yml", "b.yaml", "sub/d.yaml"]


def test_empty_directory_and_oversized_and_too_many_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSourceError, match=r"no \.yaml"):
        read_sources([tmp_path])
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(UnreadableSourceError, match="more than 1000"):
        read_sources([tmp_path])


def test_endless_file_is_read_up_to_the_bound(tmp_path: Path) -> None:
    (source,) = read_sources([Path("/dev/zero")])

    assert len(source.text) == MAX_FILE + 1
