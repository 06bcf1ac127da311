"""A configuration file: one flat table of settings in TOML or YAML, each with the line it stands on."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from settings.errors import Finding, SettingsError

if TYPE_CHECKING:
    import yaml

MAX_FILE = 1024 * 1024
"""Bytes. A file of settings is a page; more is a mistake, such as a log given for it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a file."""

    value: object
    origin: str
    """`name.yaml:3`."""


def read(path: Path) -> Mapping[str, Entry]:
    """Every key of the file. Raises SettingsError naming the file, and the line where a parser knows it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE:
        raise _refused(path, f"is larger than {MAX_FILE} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(path, "is not UTF-8 text") from error
    match path.suffix.lower():
        case ".toml":
            return _toml(path, text)
        case ".yaml" | ".yml" | ".json":
            return _yaml(path, text)
        case _:
            raise _refused(path, "expected a name that ends in .toml, .yaml or .yml")


def _toml(path: Path, text: str) -> Mapping[str, Entry]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refused(path, f"is not TOML: {error}") from error
    return {key: Entry(value, f"{path}{_toml_line(text, key)}") for key, value in table.items()}


def _toml_line(text: str, key: str) -> str:
    # tomllib keeps no positions. The table is flat, so the first line that assigns the key is the one;
    # a multi-line string could hold a look-alike, which would only misplace a message.
    pattern = re.compile(rf"""\s*\[?["']?{re.escape(key)}["']?\s*[=\].]""")
    for number, line in enumerate(text.split("\n"), 1):
        if pattern.match(line):
            return f":{number}"
    return ""


def _yaml(path: Path, text: str) -> Mapping[str, Entry]:
    import yaml  # takes 1.5 MB, and most processes are told by flags and variables

    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            raise _refused(path, "expected a table of settings", root.start_mark.line + 1)
        return _entries(path, loader, root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "unreadable"
        raise _refused(path, f"is not YAML: {problem}", mark.line + 1 if mark else 0) from error
    except (ValueError, RecursionError) as error:  # an impossible date, or nesting as an attack
        raise _refused(path, "is not YAML: a value cannot be read") from error
    finally:
        loader.dispose()


def _entries(path: Path, loader: "yaml.SafeLoader", root: "yaml.MappingNode") -> Mapping[str, Entry]:
    entries: dict[str, Entry] = {}
    twice = []
    for key_node, value_node in root.value:
        key = str(loader.construct_object(key_node, deep=True))
        origin = f"{path}:{key_node.start_mark.line + 1}"
        if key in entries:  # PyYAML keeps the last one silently
            twice.append(Finding(key, f"stands twice in the file, first at {entries[key].origin}", origin))
        entries[key] = Entry(loader.construct_object(value_node, deep=True), origin)
    if twice:
        raise SettingsError(twice)
    return entries


def _refused(path: Path, problem: str, line: int = 0) -> SettingsError:
    return SettingsError([Finding("config", problem, f"{path}:{line}" if line else str(path))])
