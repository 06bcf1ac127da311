"""The application's side of the demo: the official SDKs, unchanged, pointed at the sidecar by their base URL."""

from typing import NamedTuple

MODEL = "simulated"


class Received(NamedTuple):
    """An answer as the application got it."""

    text: str
    pieces: int
    """Deltas with text; 1: not streamed."""


async def ask_openai(sidecar: str, prompt: str) -> Received:
    """Chat completions, streamed. Raises openai.OpenAIError."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{sidecar}/openai/v1", api_key="not-needed", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    return Received("".join(pieces), sum(map(bool, pieces)))


async def ask_anthropic(sidecar: str, prompt: str) -> Received:
    """Messages, in one piece. Raises anthropic.AnthropicError."""
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(base_url=f"{sidecar}/anthropic", api_key="not-needed", max_retries=0) as client:
        message = await client.messages.create(
            model=MODEL, max_tokens=1024, messages=[{"role": "user", "content": prompt}]
        )
    return Received("".join(block.text for block in message.content if block.type == "text"), 1)
