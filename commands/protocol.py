"""`aegis protocol`: check, explain and try MathProtocol texts without a model.

Every TEXT may be `@file` (its contents) or `-` (standard input). With --json each command prints one JSON document.
Exit code 0: valid; 1: not valid; 2: wrong usage.
"""

import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from commands.printed import print_json
from commands.protocol_plugins import plugins
from commands.protocol_text import answer_parts, code_lists, kind_of, lesson_fields, lesson_on, parts_of, text_of
from policies.mathprotocol.chain import Breakers, ChainRun, Failed, Finished, StageCache, Stopped
from policies.mathprotocol.codes import FIBONACCI, TASK_NAMES, V21_TASKS, Kind
from policies.mathprotocol.composite import CompositeError, plan
from policies.mathprotocol.grammar import parse_request, request_fault
from policies.mathprotocol.lesson import ERROR_MEANINGS, Lesson, request_lesson
from policies.mathprotocol.responses import is_valid_response, parse_response
from policies.mathprotocol.standin import stand_in_answer

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_task = click.option(
    "--task", type=int, help="Judge TEXT as an answer to this task (a prime). Without it TEXT is a request."
)


@click.group("protocol", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Check, explain and try MathProtocol texts. TEXT may be @file or - for standard input."""


@command.command()
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True, type=text_of)
@_task
@_as_json
def validate(texts: tuple[str, ...], task: int | None, *, as_json: bool) -> None:
    """Say whether each TEXT is valid, what is wrong with it and what would be right."""
    judged = [(text, lesson_on(text, task)) for text in texts]
    if as_json:
        print_json([{"text": text, **lesson_fields(lesson)} for text, lesson in judged])
    else:
        for text, lesson in judged:
            _print_lesson(text, lesson)
    sys.exit(0 if all(lesson.valid for _, lesson in judged) else 1)


@command.command()
@click.argument("text", type=text_of)
@_task
@_as_json
def explain(text: str, task: int | None, *, as_json: bool) -> None:
    """Take a request, a chain or an answer apart and name every code in it."""
    parts = parts_of(text, task)
    lesson = lesson_on(text, task)
    if as_json:
        print_json({"text": text, **lesson_fields(lesson), "parts": parts})
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for part in parts:
            table.add_row(part["what"], part["code"], part["meaning"])
        Console(highlight=False).print(table)
        _print_lesson(text, lesson)
    sys.exit(0 if lesson.valid else 1)


@command.command()
@click.argument("text", type=text_of)
@_as_json
def simulate(text: str, *, as_json: bool) -> None:
    """Let the rule-based stand-in answer a request, and judge its answer and the request's CONTEXT."""
    from policies.firewall import injection_scanner

    request = parse_request(text)
    fault = request_fault(request, V21_TASKS, FIBONACCI)
    answer = stand_in_answer(text)
    valid = request is not None and fault is None and is_valid_response(answer, kind_of(request.task))
    score = injection_scanner().score(request.context if request else text)
    if as_json:
        print_json(
            {
                "text": text,
                "answer": answer,
                "parts": answer_parts(answer),
                "valid": valid,
                "injection": {"score": score.value, "cues": score.cues},
            }
        )
    else:
        click.echo(answer)
        for part in answer_parts(answer):
            click.echo(f"  {part['what']} {part['code']}: {part['meaning']}")
        click.echo(f"  injection score {score.value:g}{': ' + ', '.join(score.cues) if score.cues else ''}")
        if fault is not None:
            _print_lesson(text, request_lesson(text))
    sys.exit(0 if valid else 1)


@command.command()
@click.argument("left", type=text_of)
@click.argument("right", type=text_of)
@_task
@_as_json
def compare(left: str, right: str, task: int | None, *, as_json: bool) -> None:
    """Show part by part where two requests, or with --task two answers, differ. Exit code 1 if they do."""
    sides = [_named_parts(text, task) for text in (left, right)]
    rows = [
        {"what": what, "left": sides[0].get(what, ""), "right": sides[1].get(what, "")}
        for what in dict.fromkeys([*sides[0], *sides[1]])
    ]
    equal = all(row["left"] == row["right"] for row in rows)
    if as_json:
        print_json({"equal": equal, "parts": rows})
    else:
        table = Table("", "left", "right", box=None, pad_edge=False)
        for row in rows:
            table.add_row(("  " if row["left"] == row["right"] else "≠ ") + row["what"], row["left"], row["right"])
        Console(highlight=False).print(table)
    sys.exit(0 if equal else 1)


@command.command()
@click.argument("text", type=text_of, default="3-1 | " + "The patient reports a mild headache since Tuesday. " * 20)
@click.option("--rounds", default=20_000, show_default=True, type=click.IntRange(100, 10_000_000))
@_as_json
def benchmark(text: str, rounds: int, *, as_json: bool) -> None:
    """Measure what validation costs here, in CPU time, beside the published regular expression."""
    published = re.compile(r"^(\d+)-(\d+)(?:\s{0,10}\|\s{0,10}(.+))?$")
    answer = stand_in_answer(text)
    kind = kind_of(request.task) if (request := parse_request(text)) else Kind.GENERATIVE
    figures = {
        "published expression": _microseconds(lambda: published.match(text), rounds),
        "request": _microseconds(lambda: request_fault(parse_request(text), V21_TASKS, FIBONACCI), rounds),
        "answer": _microseconds(lambda: is_valid_response(answer, kind), rounds),
    }
    if as_json:
        print_json({"characters": len(text), "rounds": rounds, "microseconds": figures})
        return
    click.echo(f"{len(text)} characters, {rounds} rounds, CPU time")
    for name, cost in figures.items():
        click.echo(f"  {name:22} {cost:8.2f} µs")


@command.command("list")
@click.argument("what", type=click.Choice(["tasks", "params", "responses", "errors", "all"]), default="all")
@_as_json
def list_codes(what: str, *, as_json: bool) -> None:
    """List the codes that have a name."""
    groups = {name: rows for name, rows in code_lists().items() if what in (name, "all")}
    if as_json:
        print_json(groups)
        return
    console = Console(highlight=False)
    for name, rows in groups.items():
        table = Table(*rows[0], title=name, box=None, title_justify="left", pad_edge=False)
        for row in rows:
            table.add_row(*map(str, row.values()))
        console.print(table)


@command.command()
@click.argument("text", type=text_of)
@click.option("--plan", "plan_only", is_flag=True, help="Only show what would be run.")
@_as_json
def compose(text: str, *, plan_only: bool, as_json: bool) -> None:
    """Plan a chain such as `[19-1]->[3-1]&[5-1] | CONTEXT` and run it with the stand-in model."""
    try:
        planned = plan(text)
    except CompositeError as error:
        if as_json:
            print_json({"valid": False, "code": int(error.code), "faults": [str(error)]})
        else:
            click.echo(f"error {int(error.code)} ({ERROR_MEANINGS[error.code]}): {error}", err=True)
        sys.exit(1)
    described: dict[str, Any] = {"valid": True, "plan": str(planned), "dropped": list(map(str, planned.dropped))}
    if not plan_only:
        described |= _run(ChainRun(planned, StageCache(1 << 20), Breakers()))
    if as_json:
        print_json(described)
        return
    click.echo(f"plan: {planned}" + (f"   left out as repeats: {described['dropped']}" if planned.dropped else ""))
    for given in described.get("given", []):
        click.echo(f"  {given['stage']} {_task_name(given['stage'])}: {given['answer']}")
    if not plan_only:
        click.echo(f"{described['outcome']}")


command.add_command(plugins)


def _run(chain: ChainRun) -> dict[str, Any]:
    due = chain.start(0.0)
    while due:
        call = due.pop(0)
        due += chain.answer(call.stage, stand_in_answer(call.text), 0.0)
    outcome = chain.outcome
    assert outcome is not None  # noqa: S101 no call is due any more
    given = [{"stage": str(g.stage), "answer": g.answer} for g in outcome.given]
    match outcome:
        case Finished(results=results):
            return {"outcome": "finished", "results": [g.answer for g in results], "given": given}
        case Stopped(guard=guard):
            return {"outcome": f"stopped by {guard.stage}", "given": given}
        case Failed(stage=stage, failure=failure):
            return {"outcome": f"failed at {stage}: {failure.value}", "given": given}


def _named_parts(text: str, task: int | None) -> dict[str, str]:
    parts = {part["what"]: f"{part['code']} {part['meaning']}" for part in parts_of(text, task)}
    rest = parse_response(text).payload if task is not None else ((parse_request(text) or ("", "", ""))[2])
    key = "PAYLOAD" if task is not None else "CONTEXT"
    return parts | ({key: rest} if rest else {}) if parts else {"not valid": text}


def _task_name(stage: str) -> str:
    return TASK_NAMES[int(stage.strip("[").partition("-")[0])]


def _print_lesson(text: str, lesson: Lesson) -> None:
    shown = text if len(text) <= 60 else text[:57] + "..."
    if lesson.valid:
        click.echo(f"valid    {shown!r}")
        return
    code = f" {lesson.code} ({ERROR_MEANINGS[lesson.code]})" if lesson.code else ""
    click.echo(f"invalid  {shown!r}{code}")
    for fault in lesson.faults:
        click.echo(f"  - {fault}")
    if lesson.suggestion:
        click.echo(f"  try: {lesson.suggestion}")


def _microseconds(work: Callable[[], object], rounds: int) -> float:
    """The best of three, so that a busy machine costs us little."""
    costs: Sequence[float] = []
    for _ in range(3):
        began = time.process_time_ns()
        for _ in range(rounds):
            work()
        costs = [*costs, (time.process_time_ns() - began) / rounds / 1000]
    return round(min(costs), 3)
