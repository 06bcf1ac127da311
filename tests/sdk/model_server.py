"""What the model server of the SDK tests says, as bytes on its socket."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.fakes.datapath import Message, Script, Visit

JO = 'Jo "J" Doe'
ZOE = "Zoë\nÅngström 日本"
EVENT_STREAM = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk_event(delta: Any, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """One chat completion chunk, padded as the API pads."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    data = {**common, "choices": [choice], "obfuscation": "xY"[: 1 + len(str(delta)) % 2], **more}
    return f"data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def chat_stream(texts: Iterable[str], end: Sequence[bytes] = ()) -> bytes:
    """A streamed chat completion."""
    events = [chunk_event({"role": "assistant", "content": "", "refusal": None})]
    events += [chunk_event({"content": text}) for text in texts]
    return b"".join([*events, *(end or (chunk_event({}, "stop"), b"data: [DONE]\n\n"))])


def chat_body(**message: Any) -> bytes:
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop", "logprobs": None}
    common = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice]}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    return json.dumps({**common, "usage": usage}).encode()


def event(kind: str, **members: Any) -> bytes:
    """One event of an Anthropic message."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members}, ensure_ascii=False)}\n\n".encode()


def message(*content: Any, **more: Any) -> dict[str, Any]:
    """A whole Anthropic message."""
    usage = {"input_tokens": 5, "output_tokens": 7}
    common = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
    return {**common, "content": list(content), "stop_reason": "end_turn", "usage": usage, **more}


def message_stream(*blocks: tuple[dict[str, Any], Sequence[dict[str, Any]]], whole: bool = True) -> bytes:
    """A streamed Anthropic message: (first form of a block, its deltas) each."""
    events = [event("message_start", message=message(stop_reason=None)), event("ping")]
    for index, (block, deltas) in enumerate(blocks):
        events.append(event("content_block_start", index=index, content_block=block))
        events += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(event("content_block_stop", index=index))
    if whole:
        stopped = {"stop_reason": "end_turn", "stop_sequence": None}
        events.append(event("message_delta", delta=stopped, usage={"output_tokens": 9}))
        events.append(event("message_stop"))
    return b"".join(events)


def text_block(*texts: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A streamed text block."""
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in texts]


class ModelServer:
    """Answers requests and remembers them all."""

    def __init__(
        self,
        answer: bytes | Callable[[Any], bytes],
        *,
        status: str = "",
        fields: str = "",
        step: int = 0,
        dies: bool = False,
    ) -> None:
        """An `answer` (or what it makes of a prompt) that begins like a stream is sent as one, `step` bytes a write
        (0: all at once). `status` makes it an error instead. `dies`: the connection is reset where the answer ends."""
        self.answer = answer if callable(answer) else lambda _prompt: answer
        self.status = status
        self.fields = fields
        self.step = step
        self.dies = dies
        self.requests: list[Message] = []
        self.sent = 0
        """Bytes of streams that were handed to the socket."""

    @property
    def script(self) -> Script:
        """For `scripted_upstream`."""
        return self._serve

    @property
    def prompts(self) -> list[Any]:
        """The request bodies that came."""
        return [json.loads(request.body) for request in self.requests]

    @property
    def prompt(self) -> Any:
        """The one request body that came."""
        (prompt,) = self.prompts
        return prompt

    async def _serve(self, visit: Visit) -> None:
        while True:
            self.requests.append(await visit.request())
            answer = self.answer(self.prompts[-1])
            if self.status or not answer.startswith((b"data:", b"event:", b":")):
                await visit.answer(answer, status=self.status or "200 OK", fields=self.fields)
                continue
            await visit.send(EVENT_STREAM.encode())
            step = self.step or len(answer)
            for at in range(0, len(answer), step):
                piece = answer[at : at + step]
                await visit.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.sent += len(piece)
            if self.dies:
                visit.reset()
                return
            await visit.send(b"0\r\n\r\n")
