"""What is in the memory of a process with keys stays there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, resource, sys
from settings.hygiene import keep_memory_private
keep_memory_private()
files = os.listdir("/proc/self/fd")
print(resource.getrlimit(resource.RLIMIT_CORE), os.stat("/proc/self/mem").st_uid, len(files) > 2, flush=True)
{}
"""


def run(tail: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE.format(tail)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
    )


def test_there_is_no_core_file_and_the_process_still_reads_its_own_files(tmp_path: Path) -> None:
    result = run("os.abort()", tmp_path)

    assert result.returncode == -signal.SIGABRT
    assert result.stdout.startswith("(0, 0) 0 True"), result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
def test_another_process_of_the_same_user_cannot_read_its_memory(tmp_path: Path) -> None:
    """Dropped to `nobody`, as a container runs: the memory of a dumpable sibling can be opened, ours cannot."""
    tail = """
pid = os.fork()
if pid == 0:
    try:
        open(f"/proc/{os.getppid()}/mem", "rb").close(); print("opened", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    code = "import os; os.setgid(65534); os.setuid(65534)\n"

    private = run(code + "keep_memory_private()\n" + tail, Path("/"))
    lax = subprocess.run(
        [sys.executable, "-c", "import os, ctypes\n" + code + "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n" + tail],
        capture_output=True,
        text=True,
    )

    assert private.stdout.splitlines()[-1] == "PermissionError"
    assert lax.stdout.splitlines()[-1] == "opened"
