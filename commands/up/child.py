"""Runs one command to its end, and never leaves it behind."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple


class Ended(NamedTuple):
    """What a command left."""

    status: int
    output: bytes
    errors: bytes


async def ended(command: Sequence[str], within: float) -> Ended:
    """The command once it has ended. Raises TimeoutError after `within` seconds.

    Whoever stops waiting, by time or by cancellation, has the process killed.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(within):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None  # noqa: S101 communicate waits for the end
    return Ended(process.returncode, output, errors)
