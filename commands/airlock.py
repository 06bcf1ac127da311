"""`aegis airlock`: what the airlock finds, for people and for scorers."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies.airlock.memory import Span
from policies.airlock.scan import Scanner
from policies.errors import CapExceededError


@click.group("airlock")
def command() -> None:
    """See what the airlock sees."""


@command.command("scan")
@click.option("--jsonl", is_flag=True, help='Lines {"id","text"} in, lines {"id","spans"} out, one by one.')
@click.argument("file", default="-")
def scan(file: str, jsonl: bool) -> None:
    """Find identifiers in FILE, or in standard input.

    With --jsonl, offsets are in code points and every line is answered before the next one is read.
    """
    with click.open_file(file, encoding="utf-8") as source:
        if jsonl:
            scan_lines(source, sys.stdout)
            return
        title = "standard input" if file == "-" else Path(file).name
        try:
            text = source.read()
        except UnicodeDecodeError:
            raise click.ClickException(f"{title} is not UTF-8 text") from None
        show(text, title)


def scan_lines(source: Iterable[str], sink: TextIO) -> None:
    """Answers each document of `source`. Exits with status 2 at the first line that is none, naming its number."""
    scanner = Scanner()
    lines = iter(source)
    number = 0
    while True:
        number += 1
        try:
            line = next(lines, None)
            if line is None:
                return
            if not line.strip():
                continue
            document = json.loads(line)
            spans = scanner.scan(document["text"])
        except UnicodeDecodeError:
            raise _refused(number, "is not UTF-8") from None
        except json.JSONDecodeError as error:
            raise _refused(number, f"is not JSON: {error.msg} at column {error.colno}") from None
        except (KeyError, TypeError, AttributeError):
            raise _refused(number, 'is no object {"id": ..., "text": "..."}') from None
        except CapExceededError as error:
            raise _refused(number, f"cannot be inspected: {error}") from None
        sink.write(json.dumps({"id": document.get("id"), "spans": [span._asdict() for span in spans]}) + "\n")
        sink.flush()


class BadLineError(click.ClickException):
    """A line of the input is not what was asked for. Never shows the line."""

    exit_code = 2


def _refused(number: int, reason: str) -> BadLineError:
    return BadLineError(f"line {number} {reason}")


def show(text: str, title: str) -> None:
    """Prints the text with what was found marked in it, and a table of counts."""
    try:
        spans = Scanner().scan(text)
    except CapExceededError as error:
        raise click.ClickException(f"{title} cannot be inspected: {error}") from None
    console = Console(highlight=False)
    console.print(_marked(text, spans))
    counts = Table("identifier", "found", title=title)
    for label in sorted({span.label for span in spans}):
        counts.add_row(label, str(sum(span.label is label for span in spans)))
    console.print(counts if spans else f"{title}: nothing found")


def _marked(text: str, spans: list[Span]) -> Text:
    marked = Text()
    done = 0
    for start, end, label in spans:
        marked.append(text[done:start])
        marked.append(text[start:end], style="black on yellow")
        marked.append(f" {label} ", style="bold white on red")
        done = end
    marked.append(text[done:])
    return marked
