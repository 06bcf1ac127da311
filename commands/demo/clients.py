"""The application's side of the demo: the official SDKs, unchanged, pointed at the sidecar by their base URL."""

from typing import NamedTuple

from commands.demo.errors import UnansweredError

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
    """Chat completions, streamed. Raises UnansweredError."""
    from openai import OpenAI, OpenAIError

    try:
        with OpenAI(base_url=f"{sidecar}/openai/v1", api_key="not-needed", max_retries=0) as client:
            response = client.chat.completions.with_raw_response.create(
                model=MODEL, messages=[{"role": "user", "content": prompt}], stream=True
            )
            pieces = [chunk.choices[0].delta.content or "" for chunk in response.parse() if chunk.choices]
    except OpenAIError as error:
        raise UnansweredError(f"the OpenAI SDK got no answer: {error}") from error
    return Received(response.headers[_REQUEST_ID], "".join(pieces), sum(map(bool, pieces)))


def ask_anthropic(sidecar: str, prompt: str) -> Received:
    """Messages, in one piece. Raises UnansweredError."""
    from anthropic import Anthropic, AnthropicError

    try:
        with Anthropic(base_url=f"{sidecar}/anthropic", api_key="not-needed", max_retries=0) as client:
            response = client.messages.with_raw_response.create(
                model=MODEL, max_tokens=1024, messages=[{"role": "user", "content": prompt}]
            )
            message = response.parse()
    except AnthropicError as error:
        raise UnansweredError(f"the Anthropic SDK got no answer: {error}") from error
    text = "".join(block.text for block in message.content if block.type == "text")
    return Received(response.headers[_REQUEST_ID], text, 1)
