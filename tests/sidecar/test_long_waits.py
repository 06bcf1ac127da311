"""What is long waits for the inspector's thread, in a line with an end and for a time with an end."""

import asyncio

from sidecar.services import Limits
from tests.fakes.chat import completion, error_code, prompt
from tests.fakes.datapath import (
    Visit,
    answering_upstream,
    request,
    running_datapath,
    scripted_upstream,
    snapshot_of,
)
from tests.fakes.policies import Dwelling, Pondering, Watching

CHAT = "/v1/chat/completions"


async def test_deadline_ends_an_exchange_whose_long_answer_is_being_restored() -> None:
    dwelling = Dwelling()
    body = completion("[NAME-000001] " * 10_000)
    async with (
        answering_upstream(body) as upstream,
        running_datapath(snapshot_of(upstream.url, dwelling, total_timeout=0.5)) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("Alice"))

        assert (answer.status, error_code(answer.body)) == (504, "aegis_deadline")
        dwelling.may_end.set()
        await _eventually(dwelling.has_ended.is_set)


async def test_long_prompt_beyond_the_queue_is_refused_at_once_and_worth_another_try() -> None:
    pondering = Pondering()
    long = prompt("long " * 50_000)
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, pondering), limits=Limits(waiting_bodies=1)) as sidecar,
    ):
        read, waits, refused = [await sidecar.connect() for _ in range(3)]
        await read.send(request(CHAT, long))
        await _eventually(pondering.has_begun.is_set)
        await waits.send(request(CHAT, long))
        await _eventually(lambda: sidecar.services.inspector.waiting == 1)

        answer = await refused.post(CHAT, long)

        assert (answer.status, error_code(answer.body)) == (503, "aegis_overloaded")
        assert answer.field("retry-after") == "2"
        assert answer.field("x-should-retry") is None
        pondering.may_end.set()
        assert (await read.answer()).status == (await waits.answer()).status == 200


async def test_long_prompt_waits_for_its_inspection_only_so_long() -> None:
    pondering = Pondering()
    async with (
        answering_upstream() as upstream,
        running_datapath(snapshot_of(upstream.url, pondering), limits=Limits(queue_timeout=0.3)) as sidecar,
    ):
        client = await sidecar.connect()

        answer = await client.post(CHAT, prompt("long " * 50_000))

        assert (answer.status, error_code(answer.body)) == (503, "aegis_overloaded")
        pondering.may_end.set()
        await _eventually(pondering.has_ended.is_set)
        assert not upstream.visits


async def test_model_may_answer_a_long_prompt_for_longer_than_its_inspection_may_take() -> None:
    answers = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await answers.wait()
        await visit.answer(b"{}")

    async with (
        scripted_upstream(script) as upstream,
        running_datapath(snapshot_of(upstream.url, Watching()), limits=Limits(queue_timeout=10)) as sidecar,
    ):
        client = await sidecar.connect()
        await client.send(request(CHAT, prompt("long " * 50_000)))
        await _eventually(lambda: bool(upstream.visits))
        (connection,) = sidecar.listener._connections

        assert connection.overdue(asyncio.get_running_loop().time() + 11)

        answers.set()
        assert (await client.answer()).status == 200


async def _eventually(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)
