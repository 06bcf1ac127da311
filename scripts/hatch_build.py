"""Puts the compiled hot path into a wheel: `HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 uv build --wheel` (docs/adr/0034).

hatch-mypyc would do, but does not know packages that come from several source roots.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
from build_compiled import compile_modules, modules


class CompilingHook(BuildHookInterface[Any]):
    """Compiles what `include` of its table in pyproject.toml names. Needs a C compiler."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 hatchling's signature
        """Before the wheel is packed."""
        root = Path(self.root)
        self._directory = tempfile.TemporaryDirectory()
        into = Path(self._directory.name)
        compile_modules(root, modules(root, self.config["include"], self.config["exclude"]), into / "lib")
        for library in (into / "lib").rglob("*.so"):
            build_data["force_include"][str(library)] = str(library.relative_to(into / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """After it."""
        self._directory.cleanup()
