"""Ends the main task of a command when the process is asked to stop."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, or cancel it on SIGINT, SIGTERM or SIGHUP and wait for its orderly end.

    A second signal interrupts that order too; children then get SIGTERM from the kernel (see tether.py).
    """
    task, signalled = asyncio.current_task(), False
    assert task is not None  # noqa: S101 a coroutine runs in a task

    def cancel() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, cancel)
    try:
        await work
    except asyncio.CancelledError:
        if not signalled:
            raise
