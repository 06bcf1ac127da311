"""What the operating system says of this process (Linux `/proc`; elsewhere fewer numbers)."""

import platform
import resource
from collections.abc import Mapping
from pathlib import Path

from observability import names
from observability.metrics import Labels, Registry

_STATM = Path("/proc/self/statm")
_FDS = Path("/proc/self/fd")


def watch_process(registry: Registry, *, version: str, started_at: float) -> None:
    """Add memory, CPU time, descriptors, start time (seconds since 1970) and build to `registry`."""
    page_size = resource.getpagesize()

    def resident_memory() -> Mapping[Labels, float]:
        return {(): int(_STATM.read_text().split()[1]) * page_size} if _STATM.exists() else {}

    def open_fds() -> Mapping[Labels, float]:
        return {(): sum(1 for _ in _FDS.iterdir())} if _FDS.exists() else {}

    def cpu_seconds() -> Mapping[Labels, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {(): usage.ru_utime + usage.ru_stime}

    registry.gauge(names.RESIDENT_MEMORY).watch(resident_memory)
    registry.gauge(names.OPEN_FDS).watch(open_fds)
    registry.counter(names.CPU_SECONDS).watch(cpu_seconds)
    registry.gauge(names.START_TIME).set(started_at)
    registry.gauge(names.BUILD_INFO).set(1, (version, platform.python_version()))
