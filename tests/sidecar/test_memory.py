import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import platform, resource, sys
from sidecar.memory import keep_memory

if platform.libc_ver()[0] != "glibc":
    print("no glibc")
    sys.exit()
if sys.argv[1] == "kept":
    keep_memory()

def one_body():
    pieces = [bytes(1 << 18) for _ in range(4)]
    body = b"".join(pieces)
    text = body.decode()
    return len(text.encode() + b"behind it")

one_body()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    one_body()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


def faults_a_body(how: str) -> int:
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, cwd=root, check=True)
    if run.stdout.strip() == "no glibc":
        pytest.skip("another C library keeps memory in its own way")
    return int(run.stdout)


def test_memory_of_a_long_body_is_used_again_by_the_next_one() -> None:
    assert faults_a_body("not kept") > 200  # of 4 KiB each
    assert faults_a_body("kept") < 20
