"""`aegis mcp`: MathProtocol as tools of the Model Context Protocol, over standard input and output.

Needs the extra `mcp`. Nothing but protocol messages goes to standard output.
"""

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from commands.protocol_text import answer_parts, code_lists, lesson_fields, lesson_on, parts_of
from policies.mathprotocol.chain import Breakers, Call, ChainRun, Failed, Finished, StageCache
from policies.mathprotocol.composite import is_composite, plan
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.prompt import system_prompt
from policies.mathprotocol.standin import stand_in_answer
from settings import Address

if TYPE_CHECKING:
    from mcp.server import MCPServer

_API_KEY: Final = "AEGIS_MCP_API_KEY"
_TIMEOUT: Final = 60.0
"""Seconds for one answer of a model."""
_MAX_ANSWER: Final = 4 << 20
"""Bytes of a model's answer."""


@click.command("mcp")
@click.option(
    "--upstream",
    help="OpenAI-compatible base URL that `process` asks, for example a sidecar at http://127.0.0.1:15080/openai/v1."
    f" An API key is read from {_API_KEY}. Without it a rule-based stand-in answers.",
)
@click.option("--model", default="", help="Name of the model that the upstream shall use.")
def command(upstream: str | None, model: str) -> None:
    """Serve validate, parse, process and list to an MCP client over stdio."""
    if upstream is not None and not upstream.startswith(("http://", "https://")):
        raise click.BadParameter("expected http:// or https://", param_hint="--upstream")
    if upstream and not model:
        raise click.UsageError("--upstream needs --model")
    try:
        made = server(upstream, model)
    except ModuleNotFoundError as error:
        raise click.ClickException("this command needs the extra `mcp`: pip install aegis-mesh[mcp]") from error
    made.run("stdio")


def server(upstream: str | None = None, model: str = "") -> "MCPServer[Any]":
    """The server with its four tools. Raises ModuleNotFoundError without the extra."""
    from mcp.server import MCPServer

    made: MCPServer[Any] = MCPServer(
        "aegis-mathprotocol",
        instructions="Requests are TASK-PARAM | CONTEXT, answers RESPONSE-CONFIDENCE | PAYLOAD. Call `list` for codes.",
        log_level="ERROR",
    )

    async def ask(text: str) -> str:
        return stand_in_answer(text) if upstream is None else await asyncio.to_thread(_ask, upstream, model, text)

    @made.tool()
    def validate(text: str, task: int | None = None) -> dict[str, Any]:
        """Judge a request (or a chain of requests), or with `task` an answer to that task. Says what would be right."""
        return lesson_fields(lesson_on(text, task))

    @made.tool()
    def parse(text: str, task: int | None = None) -> dict[str, Any]:
        """Take a request, a chain, or with `task` an answer apart and name every code in it."""
        return {"valid": lesson_on(text, task).valid, "parts": parts_of(text, task)}

    @made.tool()
    async def process(text: str) -> dict[str, Any]:
        """Let the model (or, without one, a rule-based stand-in) answer a request or run a chain of requests.

        Only valid answers come back.
        """
        lesson = lesson_on(text, None)
        if not lesson.valid:
            return {"error": lesson.code, **lesson_fields(lesson)}
        if is_composite(text):
            return await _run(text, ask)
        try:
            answer = await ask(text)
        except (OSError, ValueError) as failure:
            return {"error": 500, "message": f"the upstream gave no answer: {failure}"}
        judged = lesson_on(answer, int(text.partition("-")[0]))
        if not judged.valid:
            return {"error": 4096, "message": "the model did not answer in protocol", "faults": judged.faults}
        return {"answer": answer, "parts": answer_parts(answer)}

    @made.tool(name="list")
    def list_codes() -> dict[str, Any]:
        """Every task, param, response and error code with its name."""
        return code_lists()

    return made


async def _run(text: str, ask: Callable[[str], Awaitable[str]]) -> dict[str, Any]:
    """Run a chain; the stages of one step are asked side by side."""

    async def answered(call: Call) -> tuple[Call, str | None]:
        try:
            return call, await ask(call.text)
        except (OSError, ValueError):
            return call, None

    chain = ChainRun(plan(text), StageCache(0), Breakers())
    due = chain.start(0.0)
    while due:
        answers = await asyncio.gather(*map(answered, due))
        due = [call for asked, answer in answers for call in chain.answer(asked.stage, answer, 0.0)]
    given = [{"stage": str(g.stage), "answer": g.answer} for g in chain.outcome.given] if chain.outcome else []
    match chain.outcome:
        case Finished(results=results):
            return {"answers": [result.answer for result in results], "given": given}
        case Failed(stage=stage, failure=failure):
            return {"error": 500, "message": f"{stage}: {failure.value}", "given": given}
        case _:
            return {"stopped": True, "given": given}


class _Staying(urllib.request.HTTPRedirectHandler):
    """Redirections are errors: urllib would take our key along to wherever they lead."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener(upstream: str) -> urllib.request.OpenerDirector:
    """A sidecar on this machine is asked itself, whatever proxy the environment names for the world outside."""
    host = urlsplit(upstream).hostname or ""
    proxies = (urllib.request.ProxyHandler({}),) if Address(host, 0).is_loopback else ()
    return urllib.request.build_opener(_Staying, *proxies)


def _ask(upstream: str, model: str, text: str) -> str:
    """The model's text. Raises OSError or ValueError."""
    messages = [
        {"role": "system", "content": system_prompt(ProtocolConfig(mode=ProtocolMode.ENFORCE))},
        {"role": "user", "content": text},
    ]
    headers = {"content-type": "application/json"}
    if key := os.environ.get(_API_KEY):
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(  # noqa: S310 the scheme was checked by the command
        upstream.rstrip("/") + "/chat/completions",
        json.dumps({"model": model, "temperature": 0, "messages": messages}).encode(),
        headers,
    )
    try:
        with _opener(upstream).open(request, timeout=_TIMEOUT) as answer:
            body = answer.read(_MAX_ANSWER + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(f"status {error.code}") from None
    if len(body) > _MAX_ANSWER:
        raise ValueError("an answer that is too large")
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("not a chat completion") from None
    if not isinstance(content, str):
        raise ValueError("an answer without text")
    return content
