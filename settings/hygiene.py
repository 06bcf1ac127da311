"""Keeps a process's memory to itself: where keys are, there are no core dumps, and no other process of the user reads.

    keep_memory_private()      # first thing, before any key is read

Limits: root and the kernel read everything; swap holds what was paged out (encrypt it, or have none); `bytes` cannot be
wiped or locked in memory from Python. A debugger or profiler cannot attach to such a process.
"""

import ctypes
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""prctl(2). The standard library has no prctl, hence ctypes."""


def keep_memory_private() -> None:
    """No core file (RLIMIT_CORE 0), no ptrace and no /proc/PID/mem for others of the same user (PR_SET_DUMPABLE 0).

    Child processes inherit the former; execve clears the latter, so that each program calls this itself. Raises
    OSError where the kernel refuses: better no start than keys in a core file.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
