"""Traps follow what attackers probe: from a prober at a sidecar to new traps on all of them (mathprotocol.md §6)."""

from pathlib import Path

import pytest
from aegispb.v1 import admin_pb2 as pb
from aegispb.v1 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from controlplane.security.probes import MAX_TOLD, PLACES, Probes
from observability import names
from observability.metrics import Registry
from policies.mathprotocol.codes import PRIMES, V21_TASKS
from policies.mathprotocol.policy import ProtocolPolicy
from policies.model import UnixNanos
from sidecar.policy_client import PolicyClient
from tests.controlplane.plane import Plane, running
from tests.sidecar.test_policy_client import sidecar, until

HEAD = "apiVersion: aegis.mesh/v1\n"
DOCUMENTS = (
    HEAD + "kind: Upstream\nmetadata: {name: model}\nspec: {url: http://127.0.0.1:8000}\n",
    HEAD
    + "kind: ProtocolPolicy\nmetadata: {name: strict}\n"
    + "spec: {mode: enforce, trapPrimes: [], honeypot: {rotatingTraps: 4}}\n",
    HEAD
    + "kind: Route\nmetadata: {name: all}\n"
    + "spec: {prefix: /, upstream: model, airlock: none, protocol: strict}\n",
)
NOON = UnixNanos(1_790_000_000_000_000_000)


def neighbour(directory: Path, name: str) -> Path:
    """A directory for one more sidecar under the same authority."""
    (directory / name).mkdir()
    (directory / name / "ca").symlink_to(directory / "ca")
    return directory / name


def traps_of(client: PolicyClient) -> frozenset[int]:
    assert client.current is not None
    (policy,) = client.current.routes[0].pipeline.policies
    assert isinstance(policy, ProtocolPolicy)
    return policy.traps(NOON)


async def test_what_a_prober_tries_at_one_sidecar_moves_the_traps_of_all(tmp_path: Path) -> None:
    async with running(tmp_path, heartbeat_every=0.1) as plane:
        await plane.push(*DOCUMENTS)
        probed_one = Registry()
        async with (
            sidecar(neighbour(tmp_path, "a"), plane.address, metrics=probed_one) as one,
            sidecar(neighbour(tmp_path, "b"), plane.address) as other,
        ):
            await until(lambda: one.current and other.current)
            before = traps_of(one)
            findings = probed_one.counter(names.POLICY_FINDINGS)
            findings.add(("all", "protocol.probed.43"), 120)
            findings.add(("all", "protocol.probed.97"), 1)
            await _until_heard(plane, {43: 120, 97: 1})

            answer = await plane.admin().RotateTraps(pb.RotateTrapsRequest(reason="probes in the night"))

            assert (answer.generation, list(answer.probed_primes)) == (1, [43])
            await until(lambda: traps_of(one) != before and traps_of(other) == traps_of(one))
            assert len(traps_of(one)) == 4
            assert not traps_of(one) & V21_TASKS
            (latest, _) = (await plane.admin().History(pb.HistoryRequest())).revisions
            assert (latest.author, latest.reason) == ("spiffe://test.local/operator/alice", "probes in the night")
            assert [*latest.created, *latest.changed] == ["TrapPlacement/mesh"]


async def test_traps_follow_the_probes_by_themselves_and_rest_when_nothing_is_new(tmp_path: Path) -> None:
    async with running(tmp_path, traps_follow_probes_every=0.3) as plane:
        await plane.push(*DOCUMENTS)
        stream = plane.stream()
        await stream.hello()
        await stream.send(heartbeat=discovery_pb2.Heartbeat(seq=1, probed={59: 7}))

        placed = await _until_generation(plane, 1)

        assert list(placed.probed_primes) == [59]
        (latest, *_) = (await plane.admin().History(pb.HistoryRequest())).revisions
        assert latest.author == "spiffe://test.local/controlplane/one"
        assert latest.reason == "traps follow what is probed: 59 (7 times)"
        await stream.send(heartbeat=discovery_pb2.Heartbeat(seq=2, probed={59: 7}))
        await _until_heard(plane, {59: 10})
        assert (await plane.admin().Traps(pb.TrapsRequest())).generation == 1


async def test_neither_prune_nor_rollback_takes_the_placement_away(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.push(*DOCUMENTS)
        await plane.admin().RotateTraps(pb.RotateTrapsRequest())

        await plane.push(*DOCUMENTS, prune=True)
        await plane.admin().Rollback(pb.RollbackRequest(revision=1))

        assert (await plane.admin().Traps(pb.TrapsRequest())).generation == 1


async def test_only_an_operator_rotates(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        with pytest.raises(Exception, match="is not an operator"):
            await plane.admin("sidecar/one").RotateTraps(pb.RotateTrapsRequest())


@given(st.lists(st.dictionaries(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), max_size=30), max_size=20))
def test_whatever_sidecars_tell_only_free_primes_are_favoured(told: list[dict[int, int]]) -> None:
    probes = Probes()

    for each in told:
        probes.heard(each)

    assert probes.favoured() <= PRIMES - V21_TASKS
    assert len(probes.favoured()) <= PLACES
    assert all(count <= MAX_TOLD * len(told) for count in probes.counts().values())


def test_half_of_the_probes_count_on_after_a_rotation() -> None:
    probes = Probes()
    probes.heard({43: 9, 47: 1})

    probes.rotated()

    assert probes.counts() == {43: 4}


async def _until_heard(plane: Plane, probes: dict[int, int]) -> None:
    while dict((await plane.admin().Traps(pb.TrapsRequest())).probes) != probes:
        pass


async def _until_generation(plane: Plane, generation: int) -> pb.TrapsResponse:
    while (answer := await plane.admin().Traps(pb.TrapsRequest())).generation != generation:
        pass
    assert isinstance(answer, pb.TrapsResponse)
    return answer
