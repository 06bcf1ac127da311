"""Where each setting's value comes from, and everything that is wrong with all of them."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

from settings import file as config_file
from settings.errors import Finding, SettingsError
from settings.fields import Setting, settings_of

Config = TypeVar("Config")

DEFAULT: Final = "default"


@runtime_checkable
class Checked(Protocol):
    """A config whose settings must fit together."""

    def check(self) -> Iterable[Finding]:
        """Every finding over several settings. Name the settings in `setting` and `also`; leave `origin` empty."""


@dataclass(frozen=True, slots=True)
class Resolved(Generic[Config]):
    """A config and the origin of each of its values."""

    config: Config
    origins: Mapping[str, str]
    """Setting -> `flag --x`, `environment X`, `file:line` or `default`."""


def load(
    config: type[Config],
    *,
    prefix: str,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Resolved[Config]:
    """The config with flags over environment over file over defaults.

    `flags` holds only what was given. Raises SettingsError with every finding of every source.
    """
    settings = settings_of(config)
    names = [setting.name for setting in settings]
    findings: list[Finding] = []
    entries: Mapping[str, config_file.Entry] = {}
    if file is not None:
        try:
            entries = config_file.read(file)
        except SettingsError as error:
            findings += error.findings
    for key, entry in entries.items():
        if key not in names:
            findings.append(Finding(key, "unknown setting" + _did_you_mean(key, names), entry.origin))
    findings += _unknown_variables(settings, environ or {}, prefix)

    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for setting in settings:
        raw, origins[setting.name] = _given(setting, flags or {}, environ or {}, entries, prefix)
        if origins[setting.name] == DEFAULT:
            if setting.required:
                findings.append(Finding(setting.name, _missing(setting, prefix)))
            values[setting.name] = setting.default
            continue
        try:
            values[setting.name] = setting.kind.parse(raw)
        except (ValueError, TypeError, KeyError, OverflowError):
            # The cause is not chained on purpose: it would quote the value, and the value may be a secret.
            findings.append(Finding(setting.name, _mismatch(setting, raw), origins[setting.name]))
            values[setting.name] = setting.default
    findings += _cross_findings(config, settings, values, origins, {finding.setting for finding in findings})
    if findings:
        raise SettingsError(findings)
    return Resolved(config(**values), origins)


def _given(
    setting: Setting,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    entries: Mapping[str, config_file.Entry],
    prefix: str,
) -> tuple[object, str]:
    variable = setting.variable(prefix)
    if setting.name in flags:
        return flags[setting.name], f"flag {setting.flag}"
    if variable in environ:
        return environ[variable], f"environment {variable}"
    if setting.name in entries:
        return entries[setting.name].value, entries[setting.name].origin
    return None, DEFAULT


def _cross_findings(
    config: type[Any],
    settings: Iterable[Setting],
    values: Mapping[str, object],
    origins: Mapping[str, str],
    wrong: set[str],
) -> Iterator[Finding]:
    """What the config's own `check` finds among settings that are right by themselves."""
    if any(setting.required and setting.name in wrong for setting in settings):
        return
    candidate = config(**values)  # a wrong value is replaced by its default, so that the others are still checked
    if not isinstance(candidate, Checked):
        return
    for finding in candidate.check():
        if not wrong & {finding.setting, *finding.also}:
            yield replace(finding, origin=finding.origin or origins.get(finding.setting, ""))


# A Service named aegis-x makes Kubernetes put AEGIS_X_PORT_8443_TCP and the like into every pod of the namespace.
_SERVICE_LINK: Final = re.compile(
    r"(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def _unknown_variables(settings: Iterable[Setting], environ: Mapping[str, str], prefix: str) -> Iterator[Finding]:
    known = [setting.variable(prefix) for setting in settings] + [prefix + "CONFIG"]
    for name in sorted(environ):
        if name.startswith(prefix) and name not in known and not _SERVICE_LINK.fullmatch(name.removeprefix(prefix)):
            yield Finding(name, "unknown setting" + _did_you_mean(name, known), "environment")


def _did_you_mean(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _missing(setting: Setting, prefix: str) -> str:
    ways = [way for way in (setting.flag, setting.variable(prefix)) if way]
    return f"must be set ({' or '.join(ways)}): {setting.kind.expected}"


def _mismatch(setting: Setting, raw: object) -> str:
    if setting.kind.is_secret:
        return f"expected {setting.kind.expected}"
    # reprlib is bounded in depth too: aliases make a YAML value whose plain repr fills the memory.
    bounded = reprlib.Repr()
    bounded.maxlevel = 1
    bounded.maxstring = bounded.maxother = 60
    return f"expected {setting.kind.expected}, got {bounded.repr(raw)}"
