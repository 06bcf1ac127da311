"""Settings as click options."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import click

from settings.errors import SettingsError
from settings.fields import Setting, settings_of
from settings.kinds import kind_of
from settings.resolve import load
from settings.show import show, toml

Function = Callable[..., Any]
_DECLARED: Final = "aegis_settings"


def options(config: type[Any], *, prefix: str) -> Callable[[Function], Function]:
    """Gives a click command one option per setting of `config`, `--config FILE` and `--print-config`.

    The command is called with the finished config as its keyword argument `config`, beside options of its own. With
    `--print-config` it is not called at all. Wrong settings end the process with status 2 and all findings.
    """
    settings = settings_of(config)

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def run(**given: Any) -> Any:
            context = click.get_current_context()
            path = _config_file(given.pop("config_file"), prefix, context)
            printing = given.pop("print_config")
            flags = {setting.name: given.pop("setting_" + setting.name) for setting in settings if setting.flag}
            flags = {name: value for name, value in flags.items() if value is not None and value != ()}
            try:
                resolved = load(config, prefix=prefix, flags=flags, environ=os.environ, file=path)
            except SettingsError as error:
                raise click.UsageError(str(error), context) from error
            if printing:
                click.echo(show(resolved), nl=False)
                return None
            return function(config=resolved.config, **given)

        decorated: Function = run
        run.__dict__[_DECLARED] = (config, prefix)
        for option in reversed([*(_option(s, prefix) for s in settings if s.flag), *_file_options(prefix)]):
            decorated = option(decorated)
        return decorated

    return decorate


def declared(command: click.Command) -> tuple[type[Any], str] | None:
    """The config dataclass and the prefix that a command was given by `options`; for the generated documentation."""
    found: tuple[type[Any], str] | None = getattr(command.callback, _DECLARED, None)
    return found


def _option(setting: Setting, prefix: str) -> Callable[[Function], Function]:
    # Values stay text here: click would stop at the first one it cannot convert.
    name = "setting_" + setting.name
    shown = "" if setting.required else _shown_default(setting)
    facts = "; ".join(filter(None, [setting.variable(prefix), "required" if setting.required else f"default {shown}"]))
    text = f"{setting.doc} [{facts}]"
    if setting.kind.is_switch:
        return click.option(f"{setting.flag}/--no-{setting.flag[2:]}", name, default=None, help=text)
    metavar = setting.name.rsplit("_", 1)[-1].upper()
    return click.option(setting.flag, name, default=None, multiple=setting.kind.is_list, metavar=metavar, help=text)


def _shown_default(setting: Setting) -> str:
    shown = setting.kind.show(setting.default)
    if shown is None or shown in ("", []):
        return "none"
    return shown if isinstance(shown, str) else toml(shown)


def _file_options(prefix: str) -> list[Callable[[Function], Function]]:
    return [
        click.option(
            "--config", "config_file", metavar="FILE", help=f"Settings from a TOML or YAML file. [{prefix}CONFIG]"
        ),
        click.option("--print-config", is_flag=True, help="Print every setting with its origin, and stop."),
    ]


def _config_file(flag: str | None, prefix: str, context: click.Context) -> Path | None:
    given = flag or os.environ.get(prefix + "CONFIG")
    if not given:
        return None
    kind = kind_of(Path)
    try:
        return cast("Path", kind.parse(given))
    except ValueError:
        raise click.UsageError(f"--config: expected {kind.expected}, got {given[:100]!r}", context) from None
