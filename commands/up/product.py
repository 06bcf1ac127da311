"""Brings the whole product up and takes it down again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from commands.up.child import ended
from commands.up.config import LOOPBACK, UpConfig
from commands.up.directory import Directory
from commands.up.documents import default_policies
from commands.up.errors import PushRefusedError
from commands.up.identities import enroll_all, keep_enrolled
from commands.up.programs import AEGIS, programs
from commands.up.readiness import wait_until_open, wait_until_ready
from commands.up.tree import ProcessTree, Program

_READY_WITHIN: Final = 60.0
_PUSH_WITHIN: Final = 30.0

Say = Callable[[str], None]
Clock = Callable[[], datetime]


@asynccontextmanager
async def product(
    config: UpConfig, directory: Directory, say: Say, clock: Clock, beside: Sequence[Program] = ()
) -> AsyncIterator[ProcessTree]:
    """Everything runs and the sidecar is ready; stopped in order when the block ends.

    `beside` starts first and stops last. Raises UpError, IdentityError or OSError. Cancelling is the way to stop
    early, and as orderly.
    """
    say("certificates")
    await asyncio.to_thread(enroll_all, directory, clock())
    tree = ProcessTree([*beside, *programs(config, directory)], directory.logs, say)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(tree.run())
            renewing = group.create_task(keep_enrolled(directory, clock, say))
            try:
                say("control plane, ledger node, sidecar")
                await wait_until_open(config.grpc_port, within=_READY_WITHIN)
                await _push(config, directory, say)
                await wait_until_ready(config.ready_port, within=_READY_WITHIN)
                yield tree
            finally:
                renewing.cancel()
                tree.stop()
    except BaseExceptionGroup as errors:
        # One thing went wrong and the rest was stopped for it: callers want to catch that one.
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0] from None
        raise


async def _push(config: UpConfig, directory: Directory, say: Say) -> None:
    """Through the front door: the same command, over the same gRPC, that an operator uses."""
    files = config.policy
    if not files:
        text = default_policies(config.upstream, config.protocol)
        await asyncio.to_thread(directory.policies.write_text, text)
        files = (directory.policies,)
    say(f"policies: {', '.join(map(str, files))}")
    address = f"{LOOPBACK}:{config.grpc_port}"
    command = (*AEGIS, "policy", "push", *map(str, files), "--prune", "--reason", "aegis up")
    connection = ("--server", address, "--identity", str(directory.identity("operator")))
    push = await ended((*command, *connection), _PUSH_WITHIN)
    if push.status != 0:
        raise PushRefusedError((push.output + push.errors).decode("utf-8", "replace").strip())
