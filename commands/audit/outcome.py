"""How a subcommand ends: one answer for people or one JSON object, and the exit status that scripts rely on."""

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from ledger.errors import LedgerError

T = TypeVar("T")

FAILED = 1
"""Exit status: the evidence does not hold."""

Function = Callable[..., Any]


def json_option(function: Function) -> Function:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def answer(as_json: bool, facts: dict[str, Any], lines: list[str]) -> None:
    """Print what holds."""
    click.echo(json.dumps({"ok": True, **facts}, indent=2) if as_json else "\n".join(lines))


def fail(as_json: bool, problem: str, advice: str, **facts: Any) -> NoReturn:
    """Print what does not hold and what to do next, and end with status 1."""
    if as_json:
        click.echo(json.dumps({"ok": False, "problem": problem, "advice": advice, **facts}, indent=2))
    else:
        click.secho(f"NOT verified: {problem}", fg="red", err=True)
        click.echo(advice, err=True)
    raise SystemExit(FAILED)


def judge(as_json: bool, advice: str, question: Callable[[], T]) -> T:
    """The answer, if the evidence holds; otherwise the end of the command."""
    try:
        return question()
    except LedgerError as error:
        fail(as_json, str(error), advice)
