"""What a task plugin says about itself: `plugin.toml`, read without running anything.

[plugin]
name = "example-sentiment"      # lower-case letters, digits and dashes
version = "1.0.0"
api = 1                         # version of this manifest and of the calling convention

[[task]]
prime = 31
name = "ProductSentiment"
kind = "classification"         # or "generative"
params = [1, 13]
entry = "sentiment:answer"      # module:function of the folder's code; or template = "text with {context}"

[dependencies]                  # other plugins
example-words = ">=1.0, <2"

[limits]                        # enforced by the operating system
cpu_seconds = 1
wall_seconds = 2.0
memory_mib = 64
max_output = 65536              # bytes
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policies.mathprotocol.codes import FIBONACCI, PRIMES, Kind

API_VERSIONS: Final = frozenset({1})
MAX_MANIFEST: Final = 64 * 1024
"""Bytes of a plugin.toml."""

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,5})(?:\.(0|[1-9][0-9]{0,5}))?(?:\.(0|[1-9][0-9]{0,5}))?")
_REQUIREMENT: Final = re.compile(r"(>=|<=|==|!=|>|<)\s*(.+)")
_ENTRY: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}:[a-z_][a-z0-9_]{0,62}")
_MAX_TEMPLATE: Final = 16 * 1024

Version = tuple[int, int, int]


class ManifestError(ValueError):
    """A plugin.toml is wrong; the message names every fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class PluginTask:
    """One task that a plugin brings."""

    prime: int
    name: str
    kind: Kind
    params: frozenset[int]
    entry: str = ""
    """`module:function`, called with (context, param) and answering in protocol; or empty."""
    template: str = ""
    """Prompt text in which `{context}` is replaced; or empty."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use. The operating system enforces it."""

    cpu_seconds: int = 1
    wall_seconds: float = 2.0
    memory_mib: int = 64
    """Address space beyond that of the bare interpreter."""
    max_output: int = 65_536
    """Bytes of an answer."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One plugin."""

    name: str
    version: Version
    api: int
    tasks: tuple[PluginTask, ...]
    dependencies: Mapping[str, str] = field(default_factory=dict)
    """Plugin name -> requirement, such as `>=1.0, <2`."""
    limits: Limits = field(default_factory=Limits)


def read_manifest(raw: bytes) -> Manifest:
    """The manifest that `raw` spells. Raises ManifestError and nothing else."""
    if len(raw) > MAX_MANIFEST:
        raise ManifestError([f"plugin.toml has {len(raw)} bytes, at most {MAX_MANIFEST} are read"])
    try:
        document = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no TOMLDecodeError
        raise ManifestError([f"plugin.toml is not TOML: {error}"]) from None
    faults = list(_faults(document))
    if faults:
        raise ManifestError(faults)
    plugin = document["plugin"]
    return Manifest(
        name=plugin["name"],
        version=version_of(plugin["version"]),
        api=plugin["api"],
        tasks=tuple(_task(table) for table in document["task"]),
        dependencies=dict(document.get("dependencies", {})),
        limits=Limits(**document.get("limits", {})),
    )


def version_of(text: str) -> Version:
    """`1.2` -> (1, 2, 0). Raises ValueError."""
    matched = _VERSION.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is not a version such as 1.2.3")
    return int(matched[1]), int(matched[2] or 0), int(matched[3] or 0)


def is_met(requirement: str, version: Version) -> bool:
    """Whether `version` is within a requirement such as `>=1.0, <2`. Raises ValueError."""
    return all(_meets(clause.strip(), version) for clause in requirement.split(","))


def rendered(template: str, context: str) -> str:
    """The prompt for CONTEXT. Only `{context}` means anything, and CONTEXT is not searched for it."""
    return template.replace("{context}", context)


def _meets(clause: str, version: Version) -> bool:
    matched = _REQUIREMENT.fullmatch(clause)
    if matched is None:
        raise ValueError(f"{clause!r} is not a requirement such as >=1.0")
    bound = version_of(matched[2])
    match matched[1]:
        case ">=":
            return version >= bound
        case "<=":
            return version <= bound
        case "==":
            return version == bound
        case "!=":
            return version != bound
        case ">":
            return version > bound
        case _:
            return version < bound


def _task(table: Mapping[str, Any]) -> PluginTask:
    return PluginTask(
        prime=table["prime"],
        name=table["name"],
        kind=Kind(table["kind"]),
        params=frozenset(table["params"]),
        entry=table.get("entry", ""),
        template=table.get("template", ""),
    )


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(document, {"plugin", "task", "dependencies", "limits"}, "")
    plugin = document.get("plugin")
    if not isinstance(plugin, dict):
        yield "[plugin]: is missing"
    else:
        yield from _plugin_faults(plugin)
    tasks = document.get("task")
    if not isinstance(tasks, list) or not 1 <= len(tasks) <= len(PRIMES):
        yield "[[task]]: expected at least one"
    else:
        for number, task in enumerate(tasks, start=1):
            yield from _task_faults(task, f"task {number}: ")
    yield from _dependency_faults(document.get("dependencies", {}))
    yield from _limit_faults(document.get("limits", {}))


def _plugin_faults(plugin: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(plugin, {"name", "version", "api", "description"}, "plugin.")
    if not _is_text(plugin.get("name"), _NAME):
        yield "plugin.name: expected lower-case letters, digits and dashes"
    if not _is_text(plugin.get("version"), _VERSION):
        yield "plugin.version: expected a version such as 1.2.3"
    if not _is_whole(plugin.get("api")) or plugin["api"] not in API_VERSIONS:
        yield f"plugin.api: this build speaks {sorted(API_VERSIONS)}"


def _task_faults(task: object, where: str) -> Iterator[str]:
    if not isinstance(task, dict):
        yield f"{where}expected a table"
        return
    yield from _unknown(task, {"prime", "name", "kind", "params", "entry", "template"}, where)
    if not _is_whole(task.get("prime")) or task["prime"] not in PRIMES:
        yield f"{where}prime: expected one of the primes from 2 to 97"
    if not isinstance(task.get("name"), str) or not 1 <= len(task["name"]) <= 64:
        yield f"{where}name: expected 1 to 64 characters"
    if task.get("kind") not in tuple(Kind):
        yield f"{where}kind: expected classification or generative"
    params = task.get("params")
    if not isinstance(params, list) or not params or not all(_is_whole(p) and p in FIBONACCI for p in params):
        yield f"{where}params: expected some of {sorted(FIBONACCI)}"
    if ("entry" in task) is ("template" in task):
        yield f"{where}expected either an entry or a template"
    if "entry" in task and not _is_text(task["entry"], _ENTRY):
        yield f"{where}entry: expected module:function"
    if "template" in task:
        template = task["template"]
        if not isinstance(template, str) or len(template) > _MAX_TEMPLATE or template.count("{context}") != 1:
            yield f"{where}template: expected at most {_MAX_TEMPLATE} characters with one {{context}}"


def _dependency_faults(dependencies: object) -> Iterator[str]:
    if not isinstance(dependencies, dict):
        yield "dependencies: expected a table"
        return
    for name, requirement in dependencies.items():
        try:
            is_met(requirement if isinstance(requirement, str) else "", (0, 0, 0))
        except ValueError:
            yield f"dependencies.{name}: expected a requirement such as >=1.0, <2"
        if not _NAME.fullmatch(name):
            yield f"dependencies.{name}: no plugin can have this name"


def _limit_faults(limits: object) -> Iterator[str]:
    bounds = {"cpu_seconds": (1, 60), "wall_seconds": (0.05, 120), "memory_mib": (8, 4096), "max_output": (16, 1 << 24)}
    if not isinstance(limits, dict):
        yield "limits: expected a table"
        return
    yield from _unknown(limits, set(bounds), "limits.")
    for name, (least, most) in bounds.items():
        value = limits.get(name, least)
        right = _is_whole(value) or (name == "wall_seconds" and isinstance(value, float))
        if not right or not least <= value <= most:
            yield f"limits.{name}: expected {least} to {most}"


def _unknown(table: Mapping[str, Any], known: set[str], where: str) -> Iterator[str]:
    for name in sorted(set(table) - known):
        yield f"{where}{name}: is not known"


def _is_text(value: object, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
