"""Asks the model behind the sidecar. What comes back is text; whether it is in protocol is not decided here."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx2

_PASSED_ON: Final = ("authorization", "x-api-key", "traceparent")
_MAX_ANSWER: Final = 8 << 20
"""Bytes of an unstreamed answer."""
_MAX_REFUSAL: Final = 64 << 10
"""Bytes of an error that are looked at."""


class ModelError(Exception):
    """The model gave no answer. Messages hold no text of a prompt or an answer."""

    status = 502

    def __init__(self, message: str, status: int = 502, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        """What the upstream called it: `4096`, `forbidden`, ...; bounded."""


class Model:
    """One model behind one OpenAI-compatible base URL. Owned by one event loop."""

    def __init__(self, upstream: str, name: str, timeout: float) -> None:
        self._url = upstream.rstrip("/") + "/chat/completions"
        self._name = name
        self._timeout = timeout
        self._client = httpx2.AsyncClient(timeout=timeout, trust_env=False)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def answer(self, text: str, headers: Mapping[str, str]) -> str:
        """The whole answer. Raises ModelError, also when it is not whole in time."""
        pieces: list[str] = []
        size = 0
        try:
            async with asyncio.timeout(self._timeout), aclosing(self.pieces(text, headers)) as stream:
                async for piece in stream:
                    size += len(piece)
                    if size > _MAX_ANSWER:
                        raise ModelError("the answer is too large")
                    pieces.append(piece)
        except TimeoutError:
            raise ModelError(f"the model did not answer in {self._timeout:g} s", 504) from None
        return "".join(pieces)

    async def pieces(self, text: str, headers: Mapping[str, str]) -> AsyncGenerator[str]:
        """The answer as it comes. Raises ModelError, also for a stream that breaks off."""
        body = {"model": self._name, "temperature": 0, "stream": True, "messages": [{"role": "user", "content": text}]}
        # In bytes, as they came: httpx2 writes ASCII, and a key with another letter would be a fault of ours.
        passed = [(name.encode(), headers[name].encode("latin-1")) for name in _PASSED_ON if name in headers]
        try:
            async with self._client.stream("POST", self._url, json=body, headers=passed) as response:
                if response.status_code != 200:
                    raise _refusal(response.status_code, await _beginning(response))
                async for event in httpx2.EventSource(response):
                    if event.data == "[DONE]":
                        return
                    yield _delta(event.data)
        except (httpx2.HTTPError, httpx2.SSEError, httpx2.StreamError) as error:
            raise ModelError(f"the upstream failed: {type(error).__name__}") from None
        raise ModelError("the stream broke off")


async def _beginning(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > _MAX_REFUSAL:
            break
    return bytes(body[:_MAX_REFUSAL])


def _delta(data: str) -> str:
    try:
        event: Any = json.loads(data)
        if event.get("error"):  # null is none
            raise ModelError("the upstream ended the stream with an error", code=_code(event))
        choices = event["choices"]
        content = choices[0]["delta"].get("content") if choices else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise ModelError("not a chat completion") from None
    if content is not None and not isinstance(content, str):
        raise ModelError("not a chat completion")
    return content or ""


def _refusal(status: int, body: bytes) -> ModelError:
    try:
        code = _code(json.loads(body))
    except (ValueError, TypeError, AttributeError):
        code = ""
    return ModelError(f"the upstream refused with status {status}", status if 400 <= status < 600 else 502, code)


def _code(document: Any) -> str:
    return str(document["error"].get("code") or "")[:64] if isinstance(document.get("error"), dict) else ""
