"""Gives memory back to the operating system.

Compiling the airlock's patterns takes 16 MB for a moment, which glibc would keep for good in every sidecar.
"""

import ctypes


def give_back_memory() -> None:
    """Return what is free at the ends and inside of the C heap. Does nothing where the C library has no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
