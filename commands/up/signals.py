"""Ends the main task of a command when the process is asked to stop."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def until_signal(work: Coroutine[Any, Any, Any]) -> None:
    """Run `work` to its end, or cancel it on SIGINT, SIGTERM or SIGHUP and wait for its orderly end.

    A second signal interrupts that order too; children then get SIGTERM from the kernel (see tether.py).
    """
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
