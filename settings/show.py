"""A config as TOML that can be read back, with the origin of every value beside it. Secrets stay out."""

import json
from typing import Any

from settings.fields import settings_of
from settings.resolve import Resolved


def show(resolved: Resolved[Any]) -> str:
    """TOML; reading it back gives the same config, but for secrets."""
    lines = []
    for setting in settings_of(type(resolved.config)):
        value = getattr(resolved.config, setting.name)
        shown = setting.kind.show(value)
        if setting.kind.is_secret:
            line = f"# {setting.name}: a secret, {'set' if value else 'not set'}"
        elif shown is None:
            line = f"# {setting.name}: not set"
        else:
            line = f"{setting.name} = {toml(shown)}"
        lines.append((line, resolved.origins[setting.name]))
    width = min(60, max((len(line) for line, _ in lines), default=0))
    return "".join(f"{line:<{width}}  # {_one_line(origin)}\n" for line, origin in lines)


def toml(value: object) -> str:
    """A TOML value of a str, bool, int, float or a list of these."""
    match value:
        case str():
            # A TOML basic string is a JSON string, but for DEL and for the surrogate pairs that ensure_ascii makes.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return json.dumps(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
