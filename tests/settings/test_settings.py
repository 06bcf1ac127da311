"""Flags over environment over file over default; every finding at once; secrets stay secret."""

import contextlib
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import settings
from settings import Address, ByteSize, Finding, Range, Seconds, Secret, SettingsError, load, show
from settings.file import MAX_FILE
from settings.kinds import kind_of
from settings.show import toml


class Mode(StrEnum):
    OFF = "off"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A process."""

    data: Path
    """Where state is."""
    listen: Address = Address("127.0.0.1", 15080)
    """Where clients
    come in."""
    workers: Annotated[int, Range(1, 64)] = 1
    """Processes."""
    mode: Mode = Mode.OFF
    """What to enforce."""
    drain_timeout: Seconds = 30.0
    """How long to drain."""
    max_body: ByteSize = 32 << 20
    """Largest body."""
    peers: tuple[Address, ...] = ()
    """Other nodes."""
    names: tuple[str, ...] = ("a",)
    """Names."""
    ca_file: Path | None = None
    """CAs."""
    verbose: bool = False
    """Say more."""
    ratio: float = 0.5
    """A ratio."""
    password: Secret = field(default="", repr=False)
    """Of the database."""

    def check(self) -> Iterable[Finding]:
        if self.peers and self.ca_file is None:
            yield Finding("ca_file", "is needed with peers", also=("peers",))
        if self.workers > 1 and self.verbose:
            yield Finding("verbose", "is for one worker", also=("workers",))


PREFIX = "AEGIS_TEST_"


def findings(**sources: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Config, prefix=PREFIX, **sources)
    return [str(finding) for finding in caught.value.findings]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def invoke(*args: str, env: dict[str, str] | None = None) -> Result:
    @click.command()
    @click.option("--extra", default="x")
    @settings.options(Config, prefix=PREFIX)
    def command(config: Config, extra: str) -> None:
        """A process."""
        click.echo(f"{config.listen} {config.workers} {config.names} {config.verbose} {extra}")

    return CliRunner().invoke(command, args, env=env or {})


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "data: /from/file\nworkers: 2\nmode: enforce\n")

    resolved = load(
        Config,
        prefix=PREFIX,
        flags={"data": "/from/flag"},
        environ={"AEGIS_TEST_DATA": "/from/env", "AEGIS_TEST_WORKERS": "3", "OTHER": "x"},
        file=file,
    )

    assert (Path("/from/flag"), 3, Mode.ENFORCE, 30.0) == (
        resolved.config.data,
        resolved.config.workers,
        resolved.config.mode,
        resolved.config.drain_timeout,
    )
    assert resolved.origins["data"] == "flag --data"
    assert resolved.origins["workers"] == "environment AEGIS_TEST_WORKERS"
    assert resolved.origins["mode"] == f"{file}:3"
    assert resolved.origins["drain_timeout"] == "default"


def test_every_bad_setting_of_every_source_is_reported_at_once(tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", 'mode = "on"\nmax-body = 3\n[peers]\nx = 1\n')

    found = findings(flags={"listen": "localhost"}, environ={"AEGIS_TEST_WORKERS": "0"}, file=file)

    assert found == [
        f"max-body ({file}:2): unknown setting; did you mean max_body?",
        "data: must be set (--data or AEGIS_TEST_DATA): a path",
        "listen (flag --listen): expected host:port such as 127.0.0.1:15080 or [::1]:15080, got 'localhost'",
        "workers (environment AEGIS_TEST_WORKERS): expected a whole number between 1 and 64, got '0'",
        f"mode ({file}:1): expected one of off, enforce, got 'on'",
        f"peers ({file}:3): expected a list, each host:port such as 127.0.0.1:15080 or [::1]:15080, got {{'x': 1}}",
    ]


def test_settings_that_do_not_fit_together_are_all_reported_with_their_origin() -> None:
    flags = {"data": "/d", "peers": ("a:1",), "workers": "2", "verbose": True}

    assert findings(flags=flags) == [
        "ca_file (default): is needed with peers",
        "verbose (flag --verbose): is for one worker",
    ]


def test_a_cross_finding_about_a_setting_that_is_wrong_by_itself_is_left_out() -> None:
    flags = {"data": "/d", "peers": ("a:1",), "workers": "many", "verbose": True}

    found = findings(flags=flags)

    assert [line.split(" ")[0] for line in found] == ["workers", "ca_file"]


def test_a_misspelt_variable_is_refused_because_it_would_silently_not_protect() -> None:
    assert findings(environ={"AEGIS_TEST_DATA": "/d", "AEGIS_TEST_MODUS": "enforce"}) == [
        "AEGIS_TEST_MODUS (environment): unknown setting; did you mean AEGIS_TEST_MODE?"
    ]


def test_variables_that_kubernetes_puts_into_every_pod_are_not_settings() -> None:
    environ = {
        "AEGIS_TEST_DATA": "/d",
        "AEGIS_TEST_SERVICE_HOST": "10.0.0.1",
        "AEGIS_TEST_SERVICE_PORT_GRPC": "1",
        "AEGIS_TEST_PORT_8443_TCP_ADDR": "10.0.0.1",
        "AEGIS_TEST_PORT": "tcp://10.0.0.1:8443",
    }

    assert load(Config, prefix=PREFIX, environ=environ).config.data == Path("/d")


def test_a_secret_never_shows() -> None:
    environ = {"AEGIS_TEST_DATA": "/d", "AEGIS_TEST_PASSWORD": "hunter2"}

    resolved = load(Config, prefix=PREFIX, environ=environ)

    assert resolved.config.password == "hunter2"
    assert "hunter2" not in show(resolved) + repr(resolved)
    assert "# password: a secret, set" in show(resolved)


def test_a_secret_of_the_wrong_type_is_reported_without_its_value(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "data: /d\npassword: 271828\n")

    assert findings(file=file) == [f"password ({file}:2): expected text"]
    with pytest.raises(SettingsError) as caught:
        load(Config, prefix=PREFIX, file=file)
    assert caught.value.__context__ is None or "271828" not in str(caught.value.__context__)


def test_a_secret_has_no_flag() -> None:
    assert "password" not in invoke("--help").output


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "data: /d\nworkers: 1\nworkers: 2\n")

    assert f"workers ({file}:3): stands twice in the file, first at {file}:2" in findings(file=file)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("c.yaml", "a: [", "is not YAML"),
        ("c.yaml", "- a\n", "expected a table of settings"),
        ("c.yaml", "data: !!python/object/apply:os.system [id]\n", "is not YAML"),
        ("c.yaml", "data: 2026-99-99\n", "is not YAML"),
        ("c.toml", "a = ", "is not TOML"),
        ("c.ini", "a=1", "expected a name that ends in"),
        ("c.yaml", "x: " + "[" * 1000, "is not YAML"),
    ],
)
def test_an_unreadable_file_is_one_finding_that_names_it(tmp_path: Path, name: str, text: str, problem: str) -> None:
    file = write(tmp_path / name, text)

    found = findings(flags={"data": "/d"}, file=file)

    assert len(found) == 1
    assert str(file) in found[0]
    assert problem in found[0]


def test_a_file_that_is_no_page_of_settings_is_refused_unread(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "")
    os.truncate(file, 1 << 40)

    assert findings(flags={"data": "/d"}, file=file) == [f"config ({file}): is larger than {MAX_FILE} bytes"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert findings(flags={"data": "/d"}, file=tmp_path / "no.yaml") == [
        f"config ({tmp_path}/no.yaml): cannot be read: No such file or directory"
    ]


def test_a_value_of_aliases_of_aliases_does_not_fill_the_memory(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 25))
    file = write(tmp_path / "c.yaml", bomb + "data: *a24\n")

    found = findings(file=file)

    assert sum(map(len, found)) < 10_000


def test_what_print_config_shows_can_be_read_back(tmp_path: Path) -> None:
    flags = {
        "data": '/d "x" \\ \x7f é',
        "peers": ("a:1", "[::1]:2"),
        "ca_file": "/ca",
        "names": ("b", "c"),
        "ratio": "1e-9",
    }
    first = load(Config, prefix=PREFIX, flags=flags)

    again = load(Config, prefix=PREFIX, file=write(tmp_path / "c.toml", show(first)))

    assert first.config == again.config


def test_print_config_names_the_origin_of_every_value_and_runs_nothing() -> None:
    result = invoke("--data", "/d", "--print-config", env={"AEGIS_TEST_WORKERS": "2"})

    assert result.exit_code == 0
    rows = dict(line.split("  # ") if "  # " in line else (line, "") for line in result.output.splitlines())
    rows = {row.strip(): origin for row, origin in rows.items()}
    assert rows['data = "/d"'] == "flag --data"
    assert rows["workers = 2"] == "environment AEGIS_TEST_WORKERS"
    assert rows['drain_timeout = "30s"'] == "default"
    assert tomllib.loads(result.output)["max_body"] == "32MiB"


def test_the_command_gets_the_config_and_its_own_options() -> None:
    result = invoke("--data", "/d", "--listen", "[::1]:80", "--names", "p", "--names", "q", "--verbose", "--extra", "y")

    assert result.output == "[::1]:80 1 ('p', 'q') True y\n"


def test_wrong_settings_end_the_command_with_status_2_and_all_findings() -> None:
    result = invoke("--listen", "x", "--workers", "y")

    assert result.exit_code == 2
    assert "3 settings are wrong" in result.output
    for name in ("data", "listen", "workers"):
        assert f"\n  {name}" in result.output


def test_help_shows_doc_variable_and_default() -> None:
    text = " ".join(invoke("--help").output.split())

    assert "Where clients come in. [AEGIS_TEST_LISTEN; default 127.0.0.1:15080]" in text
    assert "Where state is. [AEGIS_TEST_DATA; required]" in text
    assert "--verbose / --no-verbose" in text


@pytest.mark.parametrize("given", ["~nobody-has-this-name/x.yaml", "x\0.yaml"])
def test_a_file_that_cannot_be_named_is_wrong_usage(given: str) -> None:
    result = invoke("--config", given)

    assert (result.exit_code, "--config: expected a path" in result.output) == (2, True), result.output


def test_the_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", 'data = "/d"\nworkers = 4\n')

    assert invoke(env={"AEGIS_TEST_CONFIG": str(file)}).output == "127.0.0.1:15080 4 ('a',) False x\n"


@pytest.mark.parametrize(
    ("annotation", "raw", "value"),
    [
        (Seconds, "250ms", 0.25),
        (Seconds, "1h30m", 5400.0),
        (Seconds, 5, 5.0),
        (Seconds, "0.5", 0.5),
        (ByteSize, "64KiB", 65536),
        (ByteSize, "10 MB", 10_000_000),
        (Address, "[::1]:8080", Address("::1", 8080)),
        (Address, "db.internal:5432", Address("db.internal", 5432)),
        (Path | None, "", None),
        (Seconds | None, "5s", 5.0),
        (tuple[str, ...], "a, b", ("a", "b")),
        (bool, "off", False),
        (str, "", ""),
    ],
)
def test_values_are_read(annotation: Any, raw: object, value: object) -> None:
    assert kind_of(annotation).parse(raw) == value


@pytest.mark.parametrize(
    ("annotation", "raw"),
    [
        (int, True),
        (int, "1.5"),
        (str, 5),
        (float, "nan"),
        (float, "inf"),
        (Seconds, "-1"),
        (Seconds, "5 minutes"),
        (ByteSize, "1TBs"),
        (Address, ":8080"),
        (Address, "::1:8080"),
        (Address, "host:65536"),
        (Address, "http://host:1"),
        (Address, "user@host:1"),
        (Path, ""),
        (Path, "a\0b"),
        (bool, "maybe"),
        (Mode, "ENFORCE"),
        (tuple[str, ...], {"a": 1}),
    ],
)
def test_values_that_are_not_meant_are_refused(annotation: Any, raw: object) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        kind_of(annotation).parse(raw)


@given(st.text())
def test_any_text_is_one_toml_string(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate cannot stand in any file
        return
    assert tomllib.loads(f"a = {toml(text)}")["a"] == text


@given(st.floats(min_value=0, max_value=1e7).map(lambda seconds: round(seconds, 3)))
def test_durations_survive_being_shown(seconds: float) -> None:
    kind = kind_of(Seconds)

    assert kind.parse(kind.show(seconds)) == pytest.approx(seconds)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_sizes_survive_being_shown(size: int) -> None:
    kind = kind_of(ByteSize)

    assert kind.parse(kind.show(size)) == size


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(st.text()))
def test_garbage_gives_findings_and_nothing_else(value: object) -> None:
    flags = dict.fromkeys(("data", "listen", "workers", "mode", "drain_timeout", "max_body", "peers", "ratio"), value)

    with contextlib.suppress(SettingsError):
        load(Config, prefix=PREFIX, flags=flags)


@dataclass(frozen=True)
class Undocumented:
    """x"""

    a: int = 1


@dataclass(frozen=True)
class Careless:
    """x"""

    a: Secret = ""
    """x"""


@dataclass(frozen=True)
class Odd:
    """x"""

    a: complex = 1j
    """x"""


@pytest.mark.parametrize("config", [Undocumented, Careless, Odd])
def test_a_careless_declaration_is_refused_when_the_program_starts(config: type) -> None:
    with pytest.raises(TypeError, match=r"docstring|repr|type"):
        settings.settings_of(config)
