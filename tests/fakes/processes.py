"""Processes as the kernel shows them."""

from pathlib import Path


def lives(pid: int) -> bool:
    """Whether it runs. One that nobody waited for (an orphan where process 1 does not reap) is dead all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """Of a process with one thread."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
