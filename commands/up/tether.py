"""Becomes another program that is told to stop when the process that started it is gone, even by kill -9.

    python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT ...]

prctl(2): PR_SET_PDEATHSIG outlives execve, so the program itself needs to know nothing of this. It gets SIGTERM, the
same as at any other stop, and so drains and ships what it holds. The standard library has no prctl, hence ctypes; a
function run between fork and exec (preexec_fn) would be shorter but can deadlock in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the call above: no signal will ever come
        raise SystemExit(f"the parent process {parent} is gone")
    os.execv(program[0], program)  # noqa: S606 the argument list of our own supervisor


if __name__ == "__main__":
    main()
