"""The subcommands of `aegis policy`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from commands.cache import share_compiled_expressions
from commands.policy.connection import Server, admin, server_options
from commands.printed import print_json
from sidecar.policy_file import MAX_FILE, UnreadableSourceError, read_sources

FINDINGS: Final = 1
"""Exit status."""
_PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_PRUNE = click.option("--prune", is_flag=True, help="Remove every document that PATHS do not name.")
_EXPECT = click.option(
    "--expect-revision", type=click.IntRange(min=0), metavar="N", help="Refuse if the newest revision is not N."
)
_REASON = click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")


@click.group("policy")
def command() -> None:
    """Check, compare, push and roll back policies, and see who runs what.

    PATHS are files or directories of YAML documents; - is standard input.
    """


@command.command()
@_PATHS
@_JSON
def validate(paths: Sequence[Path], as_json: bool) -> None:
    """Check documents without a control plane: everything that is wrong, with its place and what to do."""
    from policies.compile import build
    from policies.errors import PolicyError, SpecError
    from policies.spec import Source
    from policies.spec_load import load

    share_compiled_expressions()
    sources = _sources(paths)
    try:
        documents = load(Source(name, text) for name, text in sources.items())
        for document in documents:
            build(document, bytes(32))
    except SpecError as error:
        _refuse(error.findings, sources, as_json=as_json)
    except PolicyError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json({"documents": len(documents), "findings": []})
    else:
        click.echo(f"{len(documents)} document{'s' if len(documents) != 1 else ''}: no findings")


@command.command()
@_PATHS
@_PRUNE
@server_options
@_JSON
def diff(paths: Sequence[Path], prune: bool, server: str, identity: Path, as_json: bool) -> None:
    """Show what a push would change, as a unified diff per document. Changes nothing."""
    from aegispb.v1 import admin_pb2 as pb

    sources = _sources(paths)
    with admin(Server(server, identity)) as stub:
        answer = stub.Diff(pb.DiffRequest(sources=_files(sources), prune=prune))
    _show_answer(answer, sources, as_json=as_json, done=f"against revision {answer.revision}", lines=True)


@command.command()
@_PATHS
@_PRUNE
@_EXPECT
@_REASON
@server_options
@_JSON
def push(
    paths: Sequence[Path],
    prune: bool,
    expect_revision: int | None,
    reason: str,
    server: str,
    identity: Path,
    as_json: bool,
) -> None:
    """Make a new revision of these documents: all of them or none. Others stay as they are, unless --prune."""
    from aegispb.v1 import admin_pb2 as pb

    sources = _sources(paths)
    request = pb.PushRequest(sources=_files(sources), prune=prune, reason=reason, expect_revision=expect_revision)
    with admin(Server(server, identity)) as stub:
        answer = stub.Push(request)
    _show_answer(answer, sources, as_json=as_json, done=f"revision {answer.revision} is in force")


@command.command()
@click.argument("revision", type=click.IntRange(min=1))
@_EXPECT
@_REASON
@server_options
@_JSON
def rollback(
    revision: int, expect_revision: int | None, reason: str, server: str, identity: Path, as_json: bool
) -> None:
    """Make a new revision with the documents of an old REVISION."""
    from aegispb.v1 import admin_pb2 as pb

    request = pb.RollbackRequest(revision=revision, reason=reason, expect_revision=expect_revision)
    with admin(Server(server, identity)) as stub:
        answer = stub.Rollback(request)
    _show_answer(answer, {}, as_json=as_json, done=f"revision {answer.revision} is in force, as {revision} was")


@command.command()
@click.option("--resources", "every_resource", is_flag=True, help="Also every policy of every sidecar.")
@server_options
@_JSON
def status(every_resource: bool, server: str, identity: Path, as_json: bool) -> None:
    """Show which sidecar runs which version of what, and who refused what and why.

    Exit status 1 when a sidecar refuses something.
    """
    from aegispb.v1 import admin_pb2 as pb

    from commands.policy import view

    with admin(Server(server, identity)) as stub:
        answer = stub.Status(pb.StatusRequest(every_resource=every_resource))
    if as_json:
        print_json(view.as_json(answer))
    else:
        view.show_status(_console(), answer, every_resource=every_resource)
    if any(each.rejected_version for node in answer.nodes for each in node.resources):
        sys.exit(FINDINGS)


@command.command("list")
@click.option("--revision", type=click.IntRange(min=1), metavar="N", help="An old revision instead of the newest.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the documents themselves: they can be pushed again.")
@server_options
@_JSON
def list_documents(revision: int | None, as_yaml: bool, server: str, identity: Path, as_json: bool) -> None:
    """List the documents in force."""
    from aegispb.v1 import admin_pb2 as pb

    from commands.policy import view

    with admin(Server(server, identity)) as stub:
        answer = stub.List(pb.ListRequest(revision=revision or 0))
    if as_json:
        print_json(view.as_json(answer))
    elif as_yaml:
        click.echo("---\n".join(document.text for document in answer.documents), nl=False)
    else:
        view.show_documents(_console(), answer)


@command.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Revisions to show.")
@server_options
@_JSON
def history(limit: int, server: str, identity: Path, as_json: bool) -> None:
    """Show who changed what, when and why."""
    from aegispb.v1 import admin_pb2 as pb

    from commands.policy import view

    with admin(Server(server, identity)) as stub:
        answer = stub.History(pb.HistoryRequest(limit=limit))
    if as_json:
        print_json(view.as_json(answer))
    else:
        view.show_history(_console(), answer)


@command.command()
def schema() -> None:
    """Print the JSON schema of policy documents, for editors and other tools."""
    from policies.spec_models import json_schema

    print_json(json_schema())


def _sources(paths: Sequence[Path]) -> dict[str, str]:
    """File name -> text. A path that cannot be read is a mistake of the command line: status 2."""
    try:
        named = [path for path in paths if str(path) != "-"]
        texts = {source.name: source.text for source in read_sources(named)} if named else {}
    except UnreadableSourceError as error:
        raise click.UsageError(str(error)) from None
    if len(named) < len(paths):
        raw = sys.stdin.buffer.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise click.UsageError(f"-: larger than {MAX_FILE} bytes")
        try:
            texts["-"] = raw.decode()
        except UnicodeDecodeError:
            raise click.UsageError("-: not UTF-8 text") from None
    return texts


def _files(sources: dict[str, str]) -> list[Any]:
    from aegispb.v1 import admin_pb2 as pb

    return [pb.SourceFile(name=name, text=text) for name, text in sources.items()]


def _show_answer(answer: Any, sources: dict[str, str], *, as_json: bool, done: str, lines: bool = False) -> None:
    from commands.policy import view

    if answer.findings:
        _refuse([view.finding_of(each) for each in answer.findings], sources, as_json=as_json)
    if as_json:
        print_json(view.as_json(answer))
        return
    console = _console()
    show = view.show_differences if lines else view.show_changes
    show(console, answer.changes)
    count = len(answer.changes)
    console.print(f"{count} change{'s' if count != 1 else ''}; {done}" if count else f"nothing differs; {done}")


def _refuse(findings: Sequence[Any], sources: dict[str, str], *, as_json: bool) -> NoReturn:
    from dataclasses import asdict

    from commands.policy import view

    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        view.show_findings(_console(stderr=True), findings, sources)
    sys.exit(FINDINGS)


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    # Not a terminal: no colours, and no line is broken or cut to some width.
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=200)
