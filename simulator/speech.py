"""What the simulated model says, before any provider's wire shape."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from policies.mathprotocol.standin import stand_in_answer
from simulator.config import Reply, SimulatorConfig
from simulator.prompt import Prompt

ECHO: Final = "You said: "

_PROTOCOL: Final = "MathProtocol"
"""Stands in every system prompt that teaches the protocol."""

_BOUNDARY: Final = re.compile(r"</?USER_DATA_SEGMENT_ID_[^>]*>")
"""What a model that follows the protocol's system prompt does not take for a part of the text."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call."""

    id: str
    name: str
    arguments: dict[str, str]

    def arguments_json(self, *, ascii_only: bool) -> str:
        """The arguments as the JSON text that OpenAI and Anthropic cut into fragments."""
        return json.dumps(self.arguments, ensure_ascii=ascii_only)


@dataclass(frozen=True, slots=True)
class Speech:
    """One answer."""

    text: str
    calls: tuple[Call, ...]
    thinking: str
    input_tokens: int
    output_tokens: int


def speech(prompt: Prompt, behaviour: SimulatorConfig) -> Speech:
    """The answer to a prompt."""
    text = _text(prompt, behaviour)
    calls = tuple(_call(prompt, number) for number in range(behaviour.tool_calls))
    thinking = f"I was told {prompt.last!r} and shall repeat it." if behaviour.thinking else ""
    return Speech(text, calls, thinking, sum(map(_tokens, prompt.texts)), _tokens(text))


def signature(thinking: str) -> str:
    """What a provider that checks its thinking blocks would send along: any changed byte makes it wrong."""
    return hashlib.sha256(b"simulated model" + thinking.encode("utf-8", "surrogatepass")).hexdigest()


def _text(prompt: Prompt, behaviour: SimulatorConfig) -> str:
    match behaviour.reply:
        case Reply.ECHO if _PROTOCOL in prompt.system:
            return stand_in_answer(" ".join(_BOUNDARY.sub(" ", prompt.last).split()))
        case Reply.ECHO:
            return ECHO + prompt.last
        case Reply.ECHO_ALL:
            return ECHO + "\n".join(prompt.texts)
        case Reply.TEXT:
            return behaviour.text


def _call(prompt: Prompt, number: int) -> Call:
    name = prompt.tools[number % len(prompt.tools)] if prompt.tools else "record"
    # Quotes, a backslash and a newline around the text: a value put back without escaping breaks the JSON.
    quoted = f'"{prompt.last}"\\\n'
    return Call(f"call_{number:04d}", name, {"text": prompt.last, "quoted": quoted, "number": str(number)})


def _tokens(text: str) -> int:
    return max(1, len(text.split()))
