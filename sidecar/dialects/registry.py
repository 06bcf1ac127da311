"""Which dialect an exchange speaks, told from its method, its path on the upstream and its headers."""

from collections.abc import Mapping

from sidecar.dialects.anthropic_messages import AnthropicMessages
from sidecar.dialects.anthropic_notes import AnthropicNotes
from sidecar.dialects.dialect import Dialect
from sidecar.dialects.generic import Generic
from sidecar.dialects.openai_chat import OpenAIChat
from sidecar.dialects.openai_completions import OpenAICompletions
from sidecar.dialects.openai_embeddings import OpenAIEmbeddings
from sidecar.dialects.openai_notes import OpenAINotes
from sidecar.dialects.openai_responses import OpenAIResponses


class Dialects:
    """All dialects of a sidecar. Stateless, so one is enough for a process."""

    __slots__ = ("_by_suffix", "_generic_anthropic", "_generic_openai")

    def __init__(self) -> None:
        chat = OpenAIChat()
        messages = AnthropicMessages()
        # Suffixes: gateways and Azure put a base path or a deployment before them.
        self._by_suffix: tuple[tuple[str, Dialect], ...] = (
            ("/chat/completions", chat),
            ("/v1/messages", messages),
            ("/v1/messages/count_tokens", AnthropicMessages(counts_only=True)),
            ("/v1/responses", OpenAIResponses()),
            ("/embeddings", OpenAIEmbeddings()),
            ("/v1/completions", OpenAICompletions()),
        )
        self._generic_openai = Generic(chat, OpenAINotes())
        self._generic_anthropic = Generic(messages, AnthropicNotes())

    def choose(self, method: str, path: str, headers: Mapping[str, str]) -> Dialect:
        """The dialect of a request: `path` as the upstream will see it, without its query; lower-case header names.

        A path that is spelled in any other way (`//`, `%63hat`, a trailing slash) is not guessed at: it is an unknown
        endpoint, whose every string is read.
        """
        if method == "POST":
            for suffix, dialect in self._by_suffix:
                if path.endswith(suffix):
                    return dialect
        return self._generic_anthropic if "anthropic-version" in headers else self._generic_openai
