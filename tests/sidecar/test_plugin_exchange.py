"""A task that a plugin answers, over real sockets and a real jailed process: the model is never asked."""

import asyncio
import errno
import json
from pathlib import Path

import pytest

from observability import names
from observability.metrics import Registry
from policies.mathprotocol.codes import Kind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.policy import ProtocolPolicy
from policies.mathprotocol.registered import RegisteredTask
from policies.model import ResultCode
from sidecar.plugins.tasks import PluginsRefusedError, plugin_hosts
from tests.fakes.chat import completion, content_of, error_code, prompt
from tests.fakes.datapath import answering_upstream, running_datapath, snapshot_of

pytestmark = pytest.mark.looptime(False)
EXAMPLE = Path(__file__).parents[2] / "plugins/example_sentiment"
SENTIMENT = RegisteredTask(31, "ProductSentiment", Kind.CLASSIFICATION, frozenset({1, 13}), code=True)
POLICY = ProtocolPolicy(ProtocolConfig(mode=ProtocolMode.ENFORCE, registered=(SENTIMENT,)), b"key")


async def test_plugin_answers_in_place_of_the_model_streamed_and_whole() -> None:
    registry = Registry()
    async with (
        answering_upstream(completion("3-128")) as upstream,
        running_datapath(snapshot_of(upstream.url, POLICY), plugins=plugin_hosts([EXAMPLE], registry)) as datapath,
    ):
        client = await datapath.connect()

        whole = await client.post(body=prompt("31-1 | I love it"))
        streamed = await client.post(body=prompt("31-1 | broken, I want a refund", stream=True))
        model = await client.post(body=prompt("2-1 | good"))

        assert (content_of(whole.body), content_of(model.body)) == ("3-128", "3-128")
        events = [json.loads(line[6:]) for line in streamed.body.decode().splitlines() if line.startswith("data: {")]
        assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "5-128"
        assert [json.loads(each.body)["messages"][-1]["content"][:3] for each in upstream.requests] == ["2-1"]
        entries = await datapath.settled(3)
        assert [(entry.task, entry.result) for entry in entries] == [
            (31, ResultCode.DELEGATED),
            (31, ResultCode.DELEGATED),
            (2, ResultCode.FORWARDED),
        ]
        assert entries[0].request_digest == bytes(32)
        assert registry.counter(names.PLUGIN_ACTIONS).values()["example-sentiment", "plugin_answered"] == 2


async def test_registered_code_without_its_plugin_is_an_error_and_nothing_leaves() -> None:
    async with (
        answering_upstream(completion("3-128")) as upstream,
        running_datapath(snapshot_of(upstream.url, POLICY)) as datapath,
    ):
        client = await datapath.connect()

        answer = await client.post(body=prompt("31-1 | I love it"))

        assert (answer.status, error_code(answer.body)) == (502, "aegis_plugin_failed")
        assert upstream.requests == []


async def test_plugin_whose_process_cannot_be_started_is_an_error_and_the_sidecar_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def out_of_descriptors(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    registry = Registry()
    async with (
        answering_upstream(completion("3-128")) as upstream,
        running_datapath(snapshot_of(upstream.url, POLICY), plugins=plugin_hosts([EXAMPLE], registry)) as datapath,
    ):
        client = await datapath.connect()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "create_subprocess_exec", out_of_descriptors)
            failed = await client.post(body=prompt("31-1 | x"))

        served = await client.post(body=prompt("31-1 | I love it"))

        assert (failed.status, error_code(failed.body)) == (502, "aegis_plugin_failed")
        assert content_of(served.body) == "3-128"
        assert registry.counter(names.PLUGIN_ACTIONS).values()["example-sentiment", "plugin_sandbox_unavailable"] == 1


async def test_plugin_that_tries_to_escape_ends_its_call_not_the_sidecar(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_text((EXAMPLE / "plugin.toml").read_text().replace("sentiment:", "bad:"))
    (tmp_path / "bad.py").write_text(
        "def answer(context, param):\n    open('/etc/passwd').read()\n    return '3-128'\n"
    )
    registry = Registry()
    async with (
        answering_upstream(completion("3-128")) as upstream,
        running_datapath(snapshot_of(upstream.url, POLICY), plugins=plugin_hosts([tmp_path], registry)) as datapath,
    ):
        client = await datapath.connect()

        escaped = await client.post(body=prompt("31-1 | x"))
        after = await client.post(body=prompt("2-1 | good"))

        assert (escaped.status, after.status) == (502, 200)
        assert (await datapath.settled(2))[0].result is ResultCode.INVALID_ANSWER


def test_plugins_that_conflict_stop_the_start_and_are_named() -> None:
    with pytest.raises(PluginsRefusedError, match="example-sentiment"):
        plugin_hosts([EXAMPLE, EXAMPLE], Registry())
