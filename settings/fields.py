"""The settings that a config dataclass declares: one per field, documented by the docstring under the field."""

import ast
import inspect
import textwrap
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from settings.kinds import Kind, kind_of


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, wherever its value comes from."""

    name: str
    """Field of the dataclass, and key in a file."""
    kind: Kind
    doc: str
    """The docstring under the field, on one line."""
    default: object
    required: bool

    @property
    def flag(self) -> str:
        """`--listen-port`; empty for a secret."""
        return "" if self.kind.is_secret else "--" + self.name.replace("_", "-")

    def variable(self, prefix: str) -> str:
        """`AEGIS_X_LISTEN_PORT`."""
        return prefix + self.name.upper()


def settings_of(config: type[Any]) -> tuple[Setting, ...]:
    """Every setting of a frozen dataclass, in order. Raises TypeError where the declaration itself is wrong."""
    if not is_dataclass(config):
        raise TypeError(f"{config.__name__} is not a dataclass")
    hints = get_type_hints(config, include_extras=True)
    docs = _attribute_docs(config)
    found = []
    for field in fields(config):
        if field.name not in docs:
            raise TypeError(f"{config.__name__}.{field.name} has no docstring under it")
        kind = kind_of(hints[field.name])
        if kind.is_secret and field.repr:
            raise TypeError(f"{config.__name__}.{field.name} is a secret and needs repr=False")
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        found.append(Setting(field.name, kind, docs[field.name], default, default is MISSING))
    return tuple(found)


def _attribute_docs(config: type[Any]) -> dict[str, str]:
    """PEP 257 attribute docstrings, which Python itself throws away."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 getsource of a class starts with it
    docs = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
            case _:
                pass
    return docs
