"""A copy of the tree in which the hot path is compiled: `scripts/build_compiled.py DIRECTORY`.

For tests and benchmarks; wheels are compiled by hatch-mypyc (HATCH_BUILD_HOOK_ENABLE_MYPYC=1). Both take the list of
modules from pyproject.toml. The sources stay beside the extension modules, which Python prefers.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Copy what git knows, then compile in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory.resolve()
    if directory == ROOT:
        parser.error("the tree itself stays as it is")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    os.chdir(directory)
    hook = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
        "mypyc"
    ]
    compile_in_place(modules(hook["include"], hook["exclude"]), hook["options"])


def modules(include: list[str], exclude: list[str]) -> list[str]:
    """The files that are compiled, relative to the root."""
    found = {str(path) for pattern in include for path in Path().glob(pattern)}
    return sorted(found - {str(path) for pattern in exclude for path in Path().glob(pattern)})


def compile_in_place(files: list[str], options: dict[str, Any]) -> None:
    """Extension modules beside the sources."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / "proto")]
    command = build_ext(Distribution({"name": "aegis-mesh", "ext_modules": mypycify(files, **options)}))
    command.inplace = True
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    main()
