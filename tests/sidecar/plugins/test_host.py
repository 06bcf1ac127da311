"""Specification section 6, Task plugins: code of others can compute and nothing else.

Real processes under the real kernel. Every escape is attempted by code that means it.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policies.mathprotocol.codes import Kind
from policies.mathprotocol.manifest import Limits, Manifest, ManifestError, PluginTask
from sidecar.plugins import host as plugin_host
from sidecar.plugins.host import (
    LoadedPlugin,
    PluginAction,
    PluginEvent,
    PluginFaultError,
    PluginHost,
    SandboxUnavailableError,
    load,
)
from tests.fakes.processes import children, lives

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.skipif(sys.platform != "linux", reason="plugins run on Linux only"),
]
EXAMPLE = Path(__file__).parents[3] / "plugins/example_sentiment"
TASK = PluginTask(31, "T", Kind.GENERATIVE, frozenset({1}), entry="main:answer")


def plugin(sources: dict[str, str], wall_seconds: float = 10.0) -> LoadedPlugin:
    limits = Limits(cpu_seconds=1, wall_seconds=wall_seconds, memory_mib=32, max_output=1000)
    return LoadedPlugin(Manifest("test", (1, 0, 0), 1, (TASK,), {}, limits), sources)


@pytest.fixture
def actions() -> list[PluginAction]:
    return []


async def test_example_plugin_answers(actions: list[PluginAction]) -> None:
    host = PluginHost(load(EXAMPLE), actions.append)

    answers = [await host.call(31, 13, text) for text in ("I love it", "Not good, a bit slow", "A box")]
    await host.stop()

    assert answers == ["3-128", "5-256", "9-512"]
    assert [action.event for action in actions] == [
        PluginEvent.LOADED,
        PluginEvent.STARTED,
        *[PluginEvent.ANSWERED] * 3,
        PluginEvent.STOPPED,
    ]
    assert "seccomp" in actions[1].detail
    assert actions[2].cpu_ms > 0


async def test_nothing_is_carried_from_one_call_to_the_next(actions: list[PluginAction]) -> None:
    source = "seen = []\ndef answer(context, param):\n    seen.append(context)\n    return '17-128 | ' + ' '.join(seen)"
    host = PluginHost(plugin({"main": source}), actions.append)

    answers = [await host.call(31, 1, text) for text in ("one", "two")]
    await host.stop()

    assert answers == ["17-128 | one", "17-128 | two"]


ESCAPES = {
    "read a file": "open('/etc/hostname').read()",
    "read a file by number": "import os; os.read(os.open('/etc/hostname', 0), 10)",
    "write a file": "open('/tmp/escaped', 'w')",
    "list a folder": "import os; os.listdir('/')",
    "see whether a file exists": "import os; os.stat('/etc/passwd')",
    "import from disk": "import sys; sys.path.append('/usr/lib/python3'); __import__('io').open_code('/etc/hostname')",
    "open a socket": "import _socket; _socket.socket()",
    "fork": "import os; os.fork()",
    "start a program": "import os; os.execv('/bin/sh', ['sh'])",
    "start a program by spawn": "import os; os.posix_spawn('/bin/sh', ['sh'], {})",
    "start a thread": "import _thread; _thread.start_new_thread(print, ())",
    "signal its parent": "import os; os.kill(os.getppid(), 9)",
    "change its limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
    "make a pipe": "import os; os.pipe()",
    "map shared memory by name": "import _posixshmem; _posixshmem.shm_open('/x', 66, 0o600)",
    "system call by number": "import ctypes; ctypes.CDLL(None).syscall(41, 2, 1, 0)",
    "leave the filter": "import ctypes; ctypes.CDLL(None).prctl(22, 0, 0, 0, 0)",
    "trace its parent": "import ctypes; ctypes.CDLL(None).ptrace(16, 1, 0, 0)",
    "introspection to os": (
        "next(c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close')"
        ".__init__.__globals__['system']('id')"
    ),
    "introspection by frames": (
        "import sys; f = sys._getframe()\n    while f.f_back: f = f.f_back\n    f.f_globals['os'].fork()"
    ),
    "introspection by modules": "import sys; sys.modules['os'].system('id')",
}


NOT_LOADED = {"open a socket", "map shared memory by name"}
"""Attempts for which the interpreter may not even have the module: they end one wall earlier."""

FAULTS = {
    "x = bytearray(1 << 30)": "memory",
    "x = []\n    while True: x.append('y' * 1000000)": "memory",
    "return '17-128 | ' + 'x' * 100_000_000": "memory",
    "return '17-128 | ' + 'x' * 5000": "output",
    "return 17": "not_a_text",
    "raise RuntimeError(context)": "raised_RuntimeError",
    "raise SystemExit": "raised_SystemExit",
    "import os; os._exit(0)": "no_answer",
    "def f(): f()\n    f()": "raised_RecursionError",
    "return 'Sure!'": "invalid_answer",
    "return '17-128'": "invalid_answer",
    "import ctypes; ctypes.string_at(0)": "crashed",
    "import nothing": "raised_ModuleNotFoundError",
}


async def faults(bodies: dict[str, str], on_action: Callable[[PluginAction], None]) -> dict[str, str]:
    """Name of each body -> the fault in which a call of it ended."""
    sources = {f"body{n}": f"def answer(context, param):\n    {body}\n" for n, body in enumerate(bodies.values())}
    sources["main"] = (
        "import importlib\n"
        "def answer(context, param):\n    return importlib.import_module(context).answer(context, param)"
    )
    host = PluginHost(plugin(sources), on_action)
    ended: dict[str, str] = {}
    for number, name in enumerate(bodies):
        try:
            ended[name] = await host.call(31, 1, f"body{number}")
        except PluginFaultError as error:
            ended[name] = error.fault
    await host.stop()
    return ended


async def test_every_escape_is_killed_and_on_record(actions: list[PluginAction]) -> None:
    bodies = {name: f"{attempt}\n    return '17-128 | escaped'" for name, attempt in ESCAPES.items()}

    ended = await faults(bodies, actions.append)

    killed = {name for name, fault in ended.items() if fault == "forbidden_system_call"}
    assert killed | NOT_LOADED == set(ESCAPES)
    assert {ended[name] for name in NOT_LOADED} <= {"forbidden_system_call", "raised_ModuleNotFoundError"}
    assert [action.event for action in actions].count(PluginEvent.ESCAPE_ATTEMPT) == len(killed)
    assert not Path("/tmp/escaped").exists()


async def test_catching_everything_does_not_help(actions: list[PluginAction]) -> None:
    body = "try:\n        open('/etc/passwd')\n    except BaseException: pass\n    return '17-128 | escaped'"

    assert await faults({"x": body}, actions.append) == {"x": "forbidden_system_call"}


async def test_code_outside_functions_is_held_too(actions: list[PluginAction]) -> None:
    host = PluginHost(plugin({"main": "import os; os.fork()\ndef answer(c, p): return '17-128 | x'"}), actions.append)

    with pytest.raises(PluginFaultError, match="forbidden_system_call"):
        await host.call(31, 1, "x")
    await host.stop()


async def test_call_without_an_answer_ends_in_a_named_fault(actions: list[PluginAction]) -> None:
    assert await faults({body: body for body in FAULTS}, actions.append) == FAULTS


async def test_call_that_takes_too_long_ends_at_its_wall_time(actions: list[PluginAction]) -> None:
    source = "import time\ndef answer(context, param):\n    time.sleep(60)"
    host = PluginHost(plugin({"main": source}, wall_seconds=0.2), actions.append)

    with pytest.raises(PluginFaultError, match="wall_time"):
        await host.call(31, 1, "x")
    await host.stop()


@pytest.mark.slow
async def test_endless_loop_ends_at_its_cpu_limit(actions: list[PluginAction]) -> None:
    host = PluginHost(plugin({"main": "def answer(context, param):\n    while True: pass"}, 10.0), actions.append)

    with pytest.raises(PluginFaultError, match="cpu_time"):
        await host.call(31, 1, "x")
    await host.stop()
    assert actions[-2].cpu_ms < 2000


async def test_fault_does_not_reach_the_next_call_and_holds_no_text(actions: list[PluginAction]) -> None:
    source = (
        "def answer(context, param):\n    if context == 'secret': raise ValueError(context)\n    return '17-128 | ok'"
    )
    host = PluginHost(plugin({"main": source}), actions.append)

    with pytest.raises(PluginFaultError) as fault:
        await host.call(31, 1, "secret")
    answer = await host.call(31, 1, "x")
    await host.stop()

    assert answer == "17-128 | ok"
    assert "secret" not in str(fault.value) + repr(actions)
    assert [action.event for action in actions].count(PluginEvent.STARTED) == 1


async def test_call_that_was_cancelled_does_not_answer_the_next(actions: list[PluginAction]) -> None:
    source = (
        "import time\ndef answer(context, param):\n    time.sleep(float(context))\n    return '17-128 | ' + context"
    )
    host = PluginHost(plugin({"main": source}), actions.append)
    await host.call(31, 1, "0")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await host.call(31, 1, "0.3")
    answer = await host.call(31, 1, "0.01")
    await host.stop()

    assert answer == "17-128 | 0.01"


async def test_call_that_was_cancelled_while_the_process_starts_does_not_shift_later_answers(
    actions: list[PluginAction], monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, is_awaited = plugin_host._receive, asyncio.Event()

    async def noted(process: asyncio.subprocess.Process) -> dict[str, Any]:
        is_awaited.set()
        return await receive(process)

    monkeypatch.setattr(plugin_host, "_receive", noted)
    host = PluginHost(plugin({"main": "def answer(context, param):\n    return '17-128 | ' + context"}), actions.append)
    async with asyncio.TaskGroup() as tasks:
        abandoned = tasks.create_task(host.call(31, 1, "abandoned"))
        await is_awaited.wait()
        abandoned.cancel()

    answers = [await host.call(31, 1, text) for text in ("one", "two", "three")]
    await host.stop()

    assert answers == ["17-128 | one", "17-128 | two", "17-128 | three"]


async def test_process_of_a_cancelled_call_ends_with_it(actions: list[PluginAction]) -> None:
    source = "import time\ndef answer(context, param):\n    time.sleep(600)\n    return '17-128 | late'"
    host = PluginHost(plugin({"main": source}, wall_seconds=60), actions.append)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        abandoned = tasks.create_task(host.call(31, 1, "x"))
        while not (calls := _under_way(host)):
            await asyncio.sleep(0.01)
        abandoned.cancel()

    async with asyncio.timeout(30):
        while any(map(lives, calls)):
            await asyncio.sleep(0.01)
    await host.stop()


async def test_call_that_closes_its_pipe_and_stays_does_not_hold_up_the_next(actions: list[PluginAction]) -> None:
    source = (
        "import os, time\ndef answer(context, param):\n    if context == 'stay':\n        os.close(3)\n"
        "        time.sleep(600)\n    return '17-128 | ok'"
    )
    host = PluginHost(plugin({"main": source}, wall_seconds=2.0), actions.append)

    with pytest.raises(PluginFaultError, match="wall_time"):
        await host.call(31, 1, "stay")
    answer = await host.call(31, 1, "x")
    await host.stop()

    assert answer == "17-128 | ok"
    assert [action.event for action in actions].count(PluginEvent.STARTED) == 1


@pytest.mark.parametrize(
    "smuggled",
    [
        "raise type(context, (Exception,), {})",
        "import os, json; os.write(3, json.dumps({'fault': context}).encode()); os._exit(0)",
        "import os, json; os.write(3, json.dumps({'fault': 'raised_' + context}).encode()); os._exit(0)",
        "import os; os.write(3, b'[' * 900); os._exit(0)",
    ],
)
async def test_fault_that_a_plugin_makes_up_says_nothing_of_the_prompt(
    smuggled: str, actions: list[PluginAction]
) -> None:
    host = PluginHost(plugin({"main": f"def answer(context, param):\n    {smuggled}"}), actions.append)

    with pytest.raises(PluginFaultError) as fault:
        await host.call(31, 1, "Okafor")
    await host.stop()

    assert fault.value.fault in {"no_answer", "raised_other"}
    assert "Okafor" not in repr(actions)


async def test_process_that_cannot_be_started_is_a_named_error(
    actions: list[PluginAction], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.plugins.host.sys.executable", "/nonexistent/python")
    host = PluginHost(load(EXAMPLE), actions.append)

    with pytest.raises(SandboxUnavailableError, match="No such file"):
        await host.call(31, 1, "x")

    assert actions[-1].event is PluginEvent.UNAVAILABLE


def _under_way(host: PluginHost) -> list[int]:
    """Processes of calls, of which the jail has one each."""
    return children(host._process.pid) if host._process is not None else []


async def test_calls_wait_for_their_turn_and_too_many_are_refused(
    actions: list[PluginAction], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.plugins.host.MAX_WAITING", 2)
    source = "import time\ndef answer(context, param):\n    time.sleep(0.05)\n    return '17-128 | ok'"
    host = PluginHost(plugin({"main": source}), actions.append)

    results = await asyncio.gather(*(host.call(31, 1, "x") for _ in range(3)), return_exceptions=True)
    await host.stop()

    assert results[:2] == ["17-128 | ok"] * 2
    assert isinstance(results[2], PluginFaultError)
    assert results[2].fault == "overloaded"


async def test_task_that_the_manifest_does_not_name_is_not_called(actions: list[PluginAction]) -> None:
    host = PluginHost(load(EXAMPLE), actions.append)

    for prime, param in ((2, 1), (31, 5)):
        with pytest.raises(PluginFaultError, match="no_such_task"):
            await host.call(prime, param, "x")


def test_folder_is_read_without_running_it(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_bytes((EXAMPLE / "plugin.toml").read_bytes())
    (tmp_path / "sentiment.py").write_text("raise SystemExit")

    assert load(tmp_path).sources == {"sentiment": "raise SystemExit"}


@pytest.mark.parametrize("damage", ["link", "large", "bytes", "missing"])
def test_folder_that_cannot_be_trusted_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "plugin.toml").write_bytes((EXAMPLE / "plugin.toml").read_bytes())
    source = tmp_path / "sentiment.py"
    match damage:
        case "link":
            source.symlink_to("/etc/passwd")
        case "large":
            source.write_bytes(b"#" * (3 << 20))
        case "bytes":
            source.write_bytes(b"\xff")

    with pytest.raises(ManifestError):
        load(tmp_path)
