"""What the C heap keeps for itself, and gives back.

Compiling the airlock's patterns takes 16 MB for a moment, which glibc would keep for good in every sidecar. What long
bodies are gathered, decoded and scanned in it would give back at once, only to be asked for it again by the next one:
the kernel zeroes each page anew, which takes longer than to inspect what stands in it.
"""

import ctypes
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1  # malloc.h
_MMAP_THRESHOLD: Final = -3
_KEPT: Final = 8 * 1024 * 1024
"""Bytes that may lie free at the end of the heap."""
_LONGEST: Final = 4 * 1024 * 1024
"""Bytes from which on a block is asked of the kernel by itself, and given back as soon as it is free."""


def _call(name: str) -> Any:
    """A function of the C library, or None where it has no such call, as musl."""
    return getattr(ctypes.CDLL(None), name, None)


def keep_memory() -> None:
    """From now on, keep what long bodies need."""
    option = _call("mallopt")
    if option is not None:
        option(_TRIM_THRESHOLD, _KEPT)
        option(_MMAP_THRESHOLD, _LONGEST)


def give_back_memory() -> None:
    """Return what is free at the ends and inside of the C heap."""
    trim = _call("malloc_trim")
    if trim is not None:
        trim(0)
