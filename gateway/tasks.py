"""Answers requests: single tasks by the model or a plugin, chains stage by stage."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from gateway.model import Model, ModelError
from gateway.vault import DeadLetter, DeadLetterVault, VaultError
from policies.mathprotocol.chain import Breakers, Call, ChainRun, Failed, Finished, StageCache, Stopped
from policies.mathprotocol.chunked import AnswerRefusedError, ChunkedAnswer
from policies.mathprotocol.codes import CLASSIFICATION_TASKS, ErrorCode, Kind
from policies.mathprotocol.composite import CompositeError, Plan, is_composite, plan
from policies.mathprotocol.grammar import Request, parse_request
from policies.mathprotocol.lesson import ERROR_MEANINGS
from policies.mathprotocol.manifest import PluginTask, rendered
from policies.mathprotocol.responses import is_valid_response, parse_response
from policies.mathprotocol.streaming import StreamError
from sidecar.plugins.host import PluginError, PluginHost

logger = logging.getLogger(__name__)


class TaskError(Exception):
    """A request was not answered. Holds no text of a prompt or an answer."""

    def __init__(self, status: int, code: int | str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def as_json(self) -> dict[str, Any]:
        """For the client."""
        return {"error": {"code": self.code, "message": str(self)}}


PluginTasks = Mapping[int, tuple[PluginHost, PluginTask]]


class Tasks:
    """Everything that can be asked. Owned by one event loop."""

    def __init__(
        self,
        model: Model,
        plugins: PluginTasks,
        cache: StageCache,
        breakers: Breakers,
        vault: DeadLetterVault,
        max_stream: int,
        *,
        registered: bool = False,
    ) -> None:
        """`registered`: the sidecar knows the plugins, and is sent requests as they are."""
        self._model = model
        self._plugins = plugins
        self._cache = cache
        self._breakers = breakers
        self._max_stream = max_stream
        self._registered = registered
        self.vault = vault

    async def process(self, text: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """The whole answer to a request or a chain. Raises TaskError."""
        if is_composite(text):
            return await self._chain(_planned(text), headers)
        request = self._request(text)
        answer = await self._answer(text, request, headers)
        if not is_valid_response(answer, self._kind(request.task)):
            raise TaskError(502, int(ErrorCode.INVALID_FORMAT), "the answer was not in protocol and was withheld")
        codes, payload = parse_response(answer)
        return {"answer": answer, "codes": codes, "payload": payload}

    async def chunks(self, text: str, headers: Mapping[str, str]) -> AsyncGenerator[str]:
        """The answer to a single request as numbered chunks, the end mark last. Raises TaskError."""
        request = self._request(text)
        answer = ChunkedAnswer(self._kind(request.task), self._max_stream)
        try:
            async with aclosing(self._pieces(text, request, headers)) as pieces:
                async for piece in pieces:
                    for chunk in answer.feed(piece):
                        yield chunk
            for chunk in answer.feed("", last=True):
                yield chunk
        except AnswerRefusedError as error:
            raise TaskError(502, error.code or int(ErrorCode.INVALID_FORMAT), str(error)) from None
        except StreamError as error:
            raise TaskError(502, error.fault.value, str(error)) from None

    async def _pieces(self, text: str, request: Request, headers: Mapping[str, str]) -> AsyncGenerator[str]:
        plugin = self._plugins.get(request.task)
        if plugin is not None and plugin[1].entry and not self._registered:
            yield await self._answer(text, request, headers)
            return
        try:
            async with aclosing(self._model.pieces(self._asked(text, request), headers)) as pieces:
                async for piece in pieces:
                    yield piece
        except ModelError as error:
            raise _upstream(error) from None

    async def _answer(self, text: str, request: Request, headers: Mapping[str, str]) -> str:
        plugin = self._plugins.get(request.task)
        try:
            if plugin is not None and plugin[1].entry and not self._registered:
                return await plugin[0].call(request.task, request.param, request.context)
            return await self._model.answer(self._asked(text, request), headers)
        except PluginError as error:
            raise TaskError(502, "plugin", str(error)) from None
        except ModelError as error:
            raise _upstream(error) from None

    async def _chain(self, planned: Plan, headers: Mapping[str, str]) -> dict[str, Any]:
        chain = ChainRun(planned, self._cache, self._breakers)
        due = chain.start(time.monotonic())
        while due:
            answers: list[tuple[Call, str | None]] = []
            async with asyncio.TaskGroup() as group:  # stages of one step are asked side by side
                for call in due:
                    group.create_task(self._stage(call, headers, answers))
            now = time.monotonic()
            due = [then for call, answer in answers for then in chain.answer(call.stage, answer, now)]
        match chain.outcome:
            case Failed() as failed:
                kept = await self._kept(DeadLetter(secrets.token_hex(8), time.time_ns() / 1e9, planned, failed))
                raise TaskError(
                    502, failed.failure.value, f"stage {failed.stage} failed: {failed.failure.value}; {kept}"
                )
            case Stopped(guard=guard, given=given):
                return {"stopped_by": str(guard.stage), "answers": [guard.answer], "given": _given(given)}
            case Finished(results=results, given=given):
                return {"answers": [result.answer for result in results], "given": _given(given)}
            case None:
                raise AssertionError("a chain without due calls has an outcome")

    async def _kept(self, letter: DeadLetter) -> str:
        """What became of a letter, for the client."""
        try:
            is_kept = await asyncio.to_thread(self.vault.keep, letter)
        except VaultError as error:
            logger.error("dead letter lost", extra={"reason": str(error)})
            return "its dead letter could not be kept"
        return (
            f"kept as dead letter {letter.id}" if is_kept else "no dead letter is kept of it: it is beyond the bounds"
        )

    async def _stage(self, call: Call, headers: Mapping[str, str], answers: list[tuple[Call, str | None]]) -> None:
        try:
            answers.append((call, await self._model.answer(call.text, headers)))
        except ModelError:
            answers.append((call, None))

    def _request(self, text: str) -> Request:
        """The single request. Codes that have no task here go to the sidecar, whose honeypot must see them."""
        request = parse_request(text)
        if request is None:
            raise _refused(ErrorCode.INVALID_FORMAT)
        plugin = self._plugins.get(request.task)
        if plugin is not None and request.param not in plugin[1].params:
            raise _refused(ErrorCode.INVALID_PARAM)
        return request

    def _asked(self, text: str, request: Request) -> str:
        plugin = self._plugins.get(request.task)
        return text if plugin is None or self._registered else rendered(plugin[1].template, request.context)

    def _kind(self, task: int) -> Kind:
        if task in self._plugins:
            return self._plugins[task][1].kind
        return Kind.CLASSIFICATION if task in CLASSIFICATION_TASKS else Kind.GENERATIVE


def _planned(text: str) -> Plan:
    try:
        return plan(text)
    except CompositeError as error:
        raise TaskError(400, int(error.code), str(error)) from None


def _refused(code: ErrorCode) -> TaskError:
    return TaskError(400, int(code), ERROR_MEANINGS[code])


def _upstream(error: ModelError) -> TaskError:
    code: int | str = int(error.code) if error.code.isascii() and error.code.isdigit() else error.code
    return TaskError(error.status, code or "upstream", str(error))


def _given(given: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [{"stage": str(each.stage), "answer": each.answer, "cached": each.cached} for each in given]
