"""The process that runs a plugin's code. Started as a script by `host.py`; imports only the standard library.

It loads no plugin code itself. For every call it forks, and the child gives up everything before the first line of the
plugin runs: no file descriptors but the pipe to us, resource limits, no new privileges, Landlock with no path allowed,
and a seccomp filter that kills on any system call but those a computing interpreter needs. Source files arrive over
standard input, so nothing needs to be opened. Introspection is no hole: whatever object a plugin reaches, the kernel
says no. A call's process ends with the call, so nothing is carried from one caller to the next.

Where the kernel offers no seccomp filter, or on a machine whose system call numbers are not listed here, no plugin
code is run at all.

Limits: a plugin sees the clock and the modules in `_OFFERED`. Side channels between processes on one CPU stay open.
"""

import builtins
import ctypes
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
from typing import Any, Final

_MAX_FRAME: Final = 16 << 20
_OFFERED: Final = (
    *("abc", "base64", "bisect", "collections", "collections.abc", "copy", "csv", "dataclasses", "datetime"),
    *("decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "html", "itertools", "json"),
    *("math", "operator", "random", "re", "statistics", "string", "textwrap", "typing", "unicodedata"),
)
"""Modules that are loaded before the doors close; a plugin can import these and its own."""

# --- prctl(2), seccomp(2), landlock(7): numbers of the kernel's interface ---

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_RET_KILL_PROCESS: Final = 0x80000000
_RET_ERRNO_EPERM: Final = 0x00050000 | 1
_RET_ALLOW: Final = 0x7FFF0000
_LANDLOCK_CREATE: Final = 444
_LANDLOCK_RESTRICT: Final = 446
_LANDLOCK_VERSION_FLAG: Final = 1
_CLONE_NAMESPACES: Final = 0x10000000 | 0x40000000 | 0x08000000  # user, network, IPC
_NOBODY: Final = 65534
_PROT_EXEC: Final = 4
_EXECUTABLE_CALLS: Final = ("mmap", "mprotect")

_FAULTS: Final = ("memory", "no_answer", "not_a_text")
"""What the child may say of itself, beside the name of a built-in exception behind `_RAISED`."""
_RAISED: Final = "raised_"

# machine -> (AUDIT_ARCH, {name: number}). From the kernel's unistd tables.
_ALLOWED: Final = {
    "x86_64": (
        0xC000003E,
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
            "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25,
            "madvise": 28, "nanosleep": 35, "exit": 60, "gettimeofday": 96, "futex": 202, "restart_syscall": 219,
            "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231, "getrandom": 318, "membarrier": 324,
            "rseq": 334,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "lseek": 62, "read": 63, "write": 64, "close": 57, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
            "nanosleep": 101, "clock_gettime": 113, "clock_nanosleep": 115, "sched_yield": 124,
            "restart_syscall": 128, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
            "gettimeofday": 169, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226,
            "madvise": 233, "getrandom": 278, "membarrier": 283, "rseq": 293,
        },
    ),
}  # fmt: skip


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


class _UnavailableError(Exception):
    """This kernel or machine cannot hold a plugin."""


def main() -> None:
    """Serve calls until standard input ends. Frames both ways: four bytes big-endian length, then JSON."""
    libc = ctypes.CDLL(None, use_errno=True)
    settings = _read_frame()
    if settings is None:
        return
    try:
        program = _seccomp_program()
        for name in _OFFERED:
            importlib.import_module(name)  # while files can still be read
        protections = ["seccomp", "rlimit", *_leave_privileges(libc)]
    except _UnavailableError as reason:
        _write_frame({"unavailable": str(reason)})
        return
    gc.freeze()
    _write_frame({"ready": protections})
    while (call := _read_frame()) is not None:
        _write_frame(_served(libc, program, settings, call))


def _served(libc: ctypes.CDLL, program: _Program, settings: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
    """Run one call in a child of its own; how it ended."""
    limits = settings["limits"]
    deadline = time.monotonic() + limits["wall_seconds"]
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reader)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a fork does not inherit ours
        if os.getppid() != parent:
            os._exit(70)
        _become_plugin(libc, program, settings, call, writer)
    os.close(writer)
    try:
        answer, late = _collect(reader, limits["max_output"] + 1024, deadline)
    finally:
        os.close(reader)
    if answer is not None and not _ends_by(child, deadline):
        answer, late = None, True
    if answer is None:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    outcome = _outcome(answer, late, status)
    return {**outcome, "cpu_ms": round((used.ru_utime + used.ru_stime) * 1000, 1), "peak_kib": used.ru_maxrss}


def _ends_by(child: int, deadline: float) -> bool:
    """Whether the child ends in time; leaves it to be waited for. One that closed its pipe and stays would otherwise
    hold up every later call."""
    pause = 0.0001
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return True


def _outcome(answer: bytes | None, late: bool, status: int) -> dict[str, Any]:
    if answer is None:
        return {"fault": "wall_time" if late else "output"}
    if os.WIFSIGNALED(status):
        match os.WTERMSIG(status):
            case signal.SIGSYS:
                return {"fault": "forbidden_system_call"}
            case signal.SIGXCPU | signal.SIGKILL:
                return {"fault": "cpu_time"}
            case _:
                return {"fault": "crashed"}
    try:
        told = json.loads(answer)
        return {"answer": str(told["answer"])} if "answer" in told else {"fault": _known_fault(told["fault"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"fault": "no_answer"}


def _known_fault(told: object) -> str:
    """A name of a closed list: what the child says comes from foreign code, which could make it say the prompt."""
    if told in _FAULTS:
        return str(told)
    if not isinstance(told, str) or not told.startswith(_RAISED):
        return "no_answer"
    raised = getattr(builtins, told.removeprefix(_RAISED), None)
    return told if isinstance(raised, type) and issubclass(raised, BaseException) else _RAISED + "other"


def _collect(reader: int, most: int, deadline: float) -> tuple[bytes | None, bool]:
    """(everything that the child wrote, or None if it was too much or took too long; whether it took too long)."""
    poll = select.poll()
    poll.register(reader, select.POLLIN | select.POLLHUP)
    parts = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None, True
        data = os.read(reader, 65_536)
        if not data:
            return bytes(parts), False
        parts += data
        if len(parts) > most:
            return None, False


# --- the child: from here on, every line makes it less able ---


def _become_plugin(
    libc: ctypes.CDLL, program: _Program, settings: dict[str, Any], call: dict[str, Any], writer: int
) -> None:
    """Give everything up, answer the call, and end. Never returns."""
    told: dict[str, str] = {"fault": "no_answer"}
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.dup2(writer, 3)
        os.closerange(4, 4096)
        _limit(settings["limits"])
        _forbid_files_and_network(libc)
        sys.path.clear()
        sys.meta_path[:] = [importlib.machinery.BuiltinImporter, _Sources(settings["sources"])]
        sys.path_hooks.clear()
        if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
            os._exit(70)
        told = _answer(call)
    except MemoryError:
        told = {"fault": "memory"}
    except BaseException as failure:  # noqa: BLE001 whatever foreign code raises ends here, as a name without text
        told = {"fault": _RAISED + type(failure).__name__[:48]}
    finally:
        _tell(told)


def _answer(call: dict[str, Any]) -> dict[str, str]:
    module, _, function = call["entry"].partition(":")
    answer = getattr(importlib.import_module(module), function)(call["context"], call["param"])
    return {"answer": answer} if isinstance(answer, str) else {"fault": "not_a_text"}


def _tell(told: dict[str, str]) -> None:
    try:
        raw = json.dumps(told).encode()
        while raw:
            raw = raw[os.write(3, raw) :]
    finally:
        os._exit(0)


def _limit(limits: dict[str, Any]) -> None:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 pathlib is not loaded here
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    memory = mapped + limits["memory_mib"] * 1024 * 1024
    for kind, bound in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 4),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(kind, (bound, bound))


def _forbid_files_and_network(libc: ctypes.CDLL) -> None:
    """Landlock with an empty list of what is allowed. A second wall: seccomp stands without it."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION_FLAG)
    if version < 1:
        return
    files = (1 << {1: 13, 2: 14}.get(version, 15 if version < 5 else 16)) - 1
    network = 0b11 if version >= 4 else 0
    attributes = struct.pack("=QQ", files, network)
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, 16 if version >= 4 else 8, 0)
    if ruleset >= 0:
        libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
        os.close(ruleset)


class _Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds the plugin's own modules in memory."""

    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:  # noqa: ARG002 contract
        if fullname not in self._sources:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=f"plugin:{fullname}")

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname]

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002 contract
        return False


# --- the zygote's own preparations ---


def _seccomp_program() -> _Program:
    """The filter for this machine. Raises _UnavailableError."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ALLOWED:
        raise _UnavailableError(f"no list of system calls for {sys.platform} on {machine}")
    architecture, allowed = _ALLOWED[machine]
    load, equal, any_bit, at_least, give = 0x20, 0x15, 0x45, 0x35, 0x06
    lines = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, _RET_KILL_PROCESS),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # the x32 table would give numbers a second meaning
        (give, 0, 0, _RET_KILL_PROCESS),
    ]
    for name, number in allowed.items():
        if name in _EXECUTABLE_CALLS:
            # Memory that is written and then executed is how native code would be smuggled in: third argument.
            lines += [
                (equal, 0, 4, number),
                (load, 0, 0, 32),
                (any_bit, 0, 1, _PROT_EXEC),
                (give, 0, 0, _RET_ERRNO_EPERM),
                (give, 0, 0, _RET_ALLOW),
            ]
        else:
            lines += [(equal, 0, 1, number), (give, 0, 0, _RET_ALLOW)]
    lines.append((give, 0, 0, _RET_KILL_PROCESS))
    return _Program(len(lines), (_Instruction * len(lines))(*(_Instruction(*line) for line in lines)))


def _leave_privileges(libc: ctypes.CDLL) -> list[str]:
    """Give up what can be given up before any call; the names of what worked. Raises _UnavailableError."""
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _UnavailableError("the kernel refuses no_new_privs, without which it takes no seccomp filter")
    done = ["no_new_privs"]
    if os.geteuid() == 0:
        os.setgroups([])
        libc.unshare(_CLONE_NAMESPACES & ~0x10000000)
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        done += ["unprivileged_user"]
    elif libc.unshare(_CLONE_NAMESPACES) == 0:
        done += ["namespaces"]
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user had cleared it
    if libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION_FLAG) >= 1:
        done.append("landlock")
    return done


def _read_frame() -> dict[str, Any] | None:
    head = _read_exactly(4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    raw = _read_exactly(length) if length <= _MAX_FRAME else None
    frame: dict[str, Any] | None = None if raw is None else json.loads(raw)
    return frame


def _read_exactly(count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        data = os.read(0, count - len(parts))
        if not data:
            return None
        parts += data
    return bytes(parts)


def _write_frame(frame: dict[str, Any]) -> None:
    raw = json.dumps(frame).encode()
    raw = len(raw).to_bytes(4, "big") + raw
    while raw:
        raw = raw[os.write(1, raw) :]


if __name__ == "__main__":
    main()
