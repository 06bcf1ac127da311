"""`aegis mcp`, asked by the official client over real pipes."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from aegis import main
from commands.mcp import server


async def called(made: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    from mcp import Client

    async with Client(made) as client:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error
        content = result.structured_content
        assert content is not None
        return dict(content)


@pytest.mark.slow
@pytest.mark.looptime(False)
async def test_client_over_stdio_finds_and_calls_the_four_tools() -> None:
    from mcp import Client, StdioServerParameters

    command = StdioServerParameters(command=sys.executable, args=["-c", "from aegis import main; main()", "mcp"])
    async with Client(command) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("process", {"text": "2-1 | I love it"})

    assert tools == {"validate", "parse", "process", "list"}
    assert answer.structured_content is not None
    assert answer.structured_content["answer"] == "3-128"


async def test_validate_teaches() -> None:
    judged = await called(server(), "validate", text="[2]-[1] | x")

    assert judged["valid"] is False
    assert judged["suggestion"] == "2-1 | x"


async def test_parse_takes_answers_apart() -> None:
    parsed = await called(server(), "parse", text="17-128 | Hola", task=17)

    assert parsed["valid"] is True
    assert [part["code"] for part in parsed["parts"]] == ["17", "128", "4 characters"]


async def test_list_has_every_code() -> None:
    assert len((await called(server(), "list"))["tasks"]) == 10


async def test_process_refuses_what_is_no_request() -> None:
    assert (await called(server(), "process", text="hello"))["error"] == 4096


async def test_process_runs_a_chain() -> None:
    done = await called(server(), "process", text="[19-1]->[3-1]&[2-1] | I love it")
    stopped = await called(server(), "process", text="[19-1]->[3-1] | explicit")

    assert done["answers"] == ["17-128 | I love it...", "3-128"]
    assert [given["stage"] for given in done["given"]] == ["[19-1]", "[3-1]", "[2-1]"]
    assert stopped["stopped"] is True


@asynccontextmanager
async def model(answer: Callable[[dict[str, Any]], bytes]) -> AsyncIterator[str]:
    """A server on a real socket that answers every POST with what `answer` makes of its JSON body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        writer.write(answer(json.loads(await reader.readexactly(length))))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"


def reply(text: object, status: str = "200 OK") -> bytes:
    body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.looptime(False)
async def test_process_asks_the_upstream_and_lets_only_valid_answers_through() -> None:
    asked: list[dict[str, Any]] = []
    answers = iter([reply("17-128 | Hola"), reply("Sure! Hola"), reply(None), reply("", "500 No")])

    def answer(body: dict[str, Any]) -> bytes:
        asked.append(body)
        return next(answers)

    async with model(answer) as url:
        results = [await called(server(url, "a-model"), "process", text="17-1 | Hello") for _ in range(4)]

    assert results[0]["answer"] == "17-128 | Hola"
    assert [result.get("error") for result in results] == [None, 4096, 500, 500]
    assert "Sure" not in json.dumps(results[1])
    assert asked[0]["messages"][-1] == {"role": "user", "content": "17-1 | Hello"}
    assert "MathProtocol" in asked[0]["messages"][0]["content"]


@pytest.mark.looptime(False)
async def test_a_sidecar_on_this_machine_is_asked_past_every_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for the outside world would be told the text before anything is taken out of it."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        proxy.setblocking(False)
        async with model(lambda _: reply("17-128 | Hola")) as url:
            result = await called(server(url, "a-model"), "process", text="17-1 | Hello")

        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert result["answer"] == "17-128 | Hola"


@pytest.mark.looptime(False)
async def test_a_redirection_is_not_followed_with_our_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_MCP_API_KEY", "canary")
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        location = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        answer = f"HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        async with model(lambda _: answer.encode()) as url:
            result = await called(server(url, "a-model"), "process", text="17-1 | Hello")

        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert (result["error"], result["message"]) == (500, "the upstream gave no answer: status 302")


@pytest.mark.parametrize(
    "arguments", [["--upstream", "file:///etc/passwd", "--model", "m"], ["--upstream", "http://x"]]
)
def test_wrong_upstream_is_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["mcp", *arguments]).exit_code == 2
