"""A copy of the tree in which the hot path is compiled: `scripts/build_compiled.py DIRECTORY` (docs/adr/0034).

For tests and benchmarks; scripts/hatch_build.py makes wheels. The sources stay beside the extension modules, which
Python prefers.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from contextlib import chdir
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Copy what git knows, then compile in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory.resolve()
    if directory == ROOT:
        parser.error("the tree itself stays as it is")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(os.path.exists, (str(ROOT / line) for line in files.splitlines())):
        copy = directory / Path(name).relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, copy)
    project = tomllib.loads((directory / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    compile_modules(directory, modules(directory, hook["include"], hook["exclude"]), directory)


def modules(root: Path, include: list[str], exclude: list[str]) -> list[str]:
    """The files that are compiled, relative to the root."""
    found = {path for pattern in include for path in root.glob(pattern)}
    return sorted(str(path.relative_to(root)) for path in found - {p for each in exclude for p in root.glob(each)})


def compile_modules(root: Path, files: list[str], into: Path) -> None:
    """Extension modules for these files of `root`, under `into`."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    sys.path[:0] = [str(root), str(root / "proto")]
    with chdir(root):
        extensions = mypycify(files, opt_level="2", debug_level="0", target_dir=str(into / ".mypyc"))
        command = build_ext(Distribution({"name": "aegis-mesh", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(into), str(into / ".mypyc")
        command.ensure_finalized()
        command.run()
    shutil.rmtree(into / ".mypyc")


if __name__ == "__main__":
    main()
