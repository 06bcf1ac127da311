"""What changes while a handshake is under way: keys that are revoked, policy that is pushed, ends that close."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

from tests.fakes.mesh import ALICE
from tests.fakes.tunnels import eventually, reason_of, refusal, stage, view_of
from transport.decisions import Reason
from transport.tunnel.errors import End
from transport.tunnel.prologue import Carrier


async def test_who_closes_while_dialling_tells_those_who_wait() -> None:
    """They were not cancelled, and must not look so: an exchange that is told why can answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with stage() as it:
            it.view = view_of(it.mesh, silent.getsockname()[1])
            async with asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(reason_of(it)) for _ in range(3)]
                await eventually(lambda: "bob" in it.tunnels.counts())
                it.tunnels.close()
                late = tasks.create_task(reason_of(it))

            assert [each.result() for each in (*waiting, late)] == [Reason.RESET] * 4


async def test_a_key_revoked_between_hello_and_message_3_is_not_let_in() -> None:
    """Whoever stole a key may hold handshakes open and finish them after the revocation: at the end of each it counts
    what is known then, not what was known when the connection came."""
    async with stage() as it:
        old = it.mesh.reception()
        known = [replace(old, admit=lambda *_: ALICE)]  # as the connection finds it
        it.server._reception = lambda: known.pop() if known else old
        it.mesh.allowed.clear()  # as message 3 does

        assert await refusal(it) in {End.NOT_ADMITTED, Reason.NOISE_AUTHENTICATION}
        assert it.served == []
        assert it.server.tunnels == 0


async def test_a_key_revoked_while_it_is_dialled_gets_no_tunnel() -> None:
    async with stage(relayed=True) as it:
        it.relay.delay = 0.05
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(reason_of(it))
            await eventually(lambda: bool(it.relay.flights))
            known = it.view.directory
            revoked = type(known)(known.peers, known.statics, frozenset([it.mesh.bob.public]))
            it.view = view_of(it.mesh, it.port, directory=revoked)
            assert it.tunnels.revoke([it.mesh.bob.public]) == 0

        assert waiting.result() is Reason.REVOKED
        assert it.served == []
        assert not it.tunnels.has_room("bob")


async def test_a_tunnel_begun_under_an_old_policy_is_made_anew() -> None:
    async with stage(relayed=True) as it:
        it.relay.delay = 0.05
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(it.connect())
            await eventually(lambda: bool(it.relay.flights))
            it.view = view_of(it.mesh, it.port, epoch=7)
            it.tunnels.renew()
        await eventually(lambda: it.server.tunnels == 1)

        assert not waiting.result().is_lost
        assert [link.standing.established.epoch for link in it.server._tunnels] == [7]


async def test_a_fault_of_ours_in_the_middle_of_a_handshake_ends_it() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with stage() as it:
        known = [it.mesh.reception()]
        it.server._reception = known.pop  # the fault: nothing is left when message 3 comes
        assert await refusal(it) in {End.NOT_ADMITTED, Reason.NOISE_AUTHENTICATION}
        await eventually(lambda: not it.server._handshaking)
    assert {type(context["exception"]) for context in reported} == {IndexError}


async def test_a_connection_that_comes_up_after_its_server_has_closed_is_cut() -> None:
    class Socket(asyncio.Transport):
        is_cut = False

        def abort(self) -> None:
            self.is_cut = True

    async with stage() as it:
        link = it.server.accept_over(Carrier.TCP)
        assert link is not None
        it.server.close()
        late = Socket()
        link.connection_made(late)

        assert late.is_cut
