"""The application's side of the demo: the official SDKs, unchanged, pointed at the sidecar by their base URL."""

from typing import NamedTuple

MODEL = "simulated"
_REQUEST_ID = "x-aegis-request-id"


class Received(NamedTuple):
    """An answer as the application got it."""

    exchange: str
    """The sidecar's id of the exchange."""
    text: str
    pieces: int
    """Deltas with text; 1: not streamed."""


def ask_openai(sidecar: str, prompt: str) -> Received:
    """Chat completions, streamed. Raises openai.OpenAIError."""
    from openai import OpenAI

    with OpenAI(base_url=f"{sidecar}/openai/v1", api_key="not-needed", max_retries=0) as client:
        response = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], stream=True
        )
        stream = response.parse()
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    return Received(response.headers[_REQUEST_ID], "".join(pieces), sum(map(bool, pieces)))


def ask_anthropic(sidecar: str, prompt: str) -> Received:
    """Messages, in one piece. Raises anthropic.AnthropicError."""
    from anthropic import Anthropic

    with Anthropic(base_url=f"{sidecar}/anthropic", api_key="not-needed", max_retries=0) as client:
        response = client.messages.with_raw_response.create(
            model=MODEL, max_tokens=1024, messages=[{"role": "user", "content": prompt}]
        )
        message = response.parse()
    text = "".join(block.text for block in message.content if block.type == "text")
    return Received(response.headers[_REQUEST_ID], text, 1)
