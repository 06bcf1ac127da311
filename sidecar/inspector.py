"""One thread for what takes long: prompts to inspect and answers to restore, so that what is small does not wait.

Whose turn it is: every piece of work gets a number, its size on top of what was done before it came, and the lowest one
is next. So short work passes long work, and long work waits at most for as much later work as it is long itself.

A second thread would not help: most of the work holds the interpreter's lock. For the same reason `SWITCH_INTERVAL`
bounds what the event loop waits for that lock each time it wants it, some ten times an exchange.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import heappop, heappush
from typing import Final, TypeVar

SWITCH_INTERVAL: Final = 0.0005
"""Seconds after which the thread hands over the interpreter, for `sys.setswitchinterval`; 0.005 unless set."""

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Inspector:
    """The thread and who waits for it. Owned by one event loop, whose thread makes all calls."""

    __slots__ = ("_done", "_loop", "_made", "_runs", "_thread", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inspector")
        self._waiting: list[tuple[int, int, Callable[[], None], Callable[[], bool]]] = []
        """(number, serial, start, is it wanted): a heap."""
        self._runs = False
        self._done = 0
        """Bytes of all work that was begun."""
        self._made = 0

    @property
    def waiting(self) -> int:
        """Pieces of work whose turn has not come."""
        return len(self._waiting)

    def submit(
        self,
        size: int,
        work: Callable[[], Result],
        then: Callable[[Result | None], None],
        wanted: Callable[[], bool],
    ) -> None:
        """Calls `then` on the event loop with what `work` returned in the thread, or with None if it raised.

        `size`: bytes that it reads. Work that nobody wants any more when its turn comes is not begun.
        """

        def start() -> None:
            self._done += size
            self._thread.submit(work).add_done_callback(done)

        def done(future: Future[Result]) -> None:
            # A closed loop or thread: the process ends, and with it everybody who waits.
            if not (future.cancelled() or self._loop.is_closed()):
                self._loop.call_soon_threadsafe(finished, future)

        def finished(future: Future[Result]) -> None:
            self._runs = False
            self._begin_next()
            error = future.exception()
            if error is not None:
                logger.error("fault while inspecting", exc_info=error)
            then(None if error is not None else future.result())

        self._made += 1
        heappush(self._waiting, (self._done + size, self._made, start, wanted))
        self._begin_next()

    def close(self) -> None:
        """Ends the thread; what waits is dropped."""
        self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin_next(self) -> None:
        while self._waiting and not self._runs:
            _, _, start, wanted = heappop(self._waiting)
            if wanted():
                self._runs = True
                start()
