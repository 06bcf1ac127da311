"""Byte streams cut into pieces."""

from collections.abc import Sequence
from itertools import pairwise


def cuts(data: bytes, at: Sequence[int]) -> list[bytes]:
    """`data` cut at these offsets; offsets beyond its end are taken modulo its length. Never an empty piece."""
    borders = sorted({offset % (len(data) + 1) for offset in at} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(borders)]
