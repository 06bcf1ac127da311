"""A route whose upstream names a peer is never sent another way than through its tunnel."""

from dataclasses import replace

from policies.model import ResultCode
from policies.snapshot import PolicySnapshot
from tests.fakes.chat import error_code
from tests.fakes.datapath import answering_upstream, running_datapath, snapshot_of


async def test_without_a_tunnel_nothing_reaches_the_upstream_of_a_peer() -> None:
    async with answering_upstream() as upstream:
        direct = snapshot_of(f"http://127.0.0.1:{upstream.port}").routes[0]
        route = replace(direct, upstream=replace(direct.upstream, peer="llm"))
        snapshot = PolicySnapshot([route], revision=1, source="file")
        async with running_datapath(snapshot) as sidecar:
            client = await sidecar.connect()

            answer = await client.post()

            assert (answer.status, error_code(answer.body)) == (503, "aegis_no_tunnel")
            (entry,) = await sidecar.settled(1)
            assert (entry.result, entry.request_digest) == (ResultCode.UPSTREAM_FAILED, bytes(32))
        assert upstream.visits == []
