"""Specification section 4, module `client_wrapper`."""

from types import SimpleNamespace
from typing import Any

import pytest
from client_wrapper import MathProtocolClient


class Provider:
    """Has the two methods of the official SDKs that the client calls, and remembers what it was asked."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._completion))
        self.messages = SimpleNamespace(create=self._message)

    def _said(self, asked: dict[str, Any]) -> str:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _completion(self, **asked: Any) -> Any:
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=self._said(asked)))])

    def _message(self, **asked: Any) -> Any:
        return SimpleNamespace(content=[SimpleNamespace(text=self._said(asked))])


def client(provider: Provider, name: str = "openai") -> MathProtocolClient:
    return MathProtocolClient(provider, "a-model", "Speak in codes.", provider=name)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_valid_answer_is_parsed_and_asked_at_temperature_zero(name: str) -> None:
    provider = Provider("17-128 | Paris")

    result = client(provider, name).execute(11, 1, "What is the capital of France?")

    assert result == {"codes": [17, 128], "payload": "Paris"}
    assert provider.asked[0]["temperature"] == 0
    assert provider.asked[0]["model"] == "a-model"
    assert provider.asked[0]["messages"][-1] == {"role": "user", "content": "11-1 | What is the capital of France?"}


def test_request_without_context_has_no_pipe() -> None:
    provider = Provider("3-128")

    client(provider).execute(2, 1)

    assert provider.asked[0]["messages"][-1]["content"] == "2-1"


@pytest.mark.parametrize(("task", "param", "context"), [(4, 1, "x"), (2, 4, "x"), (2, 1, "a\nb")])
def test_invalid_request_makes_no_call(task: int, param: int, context: str) -> None:
    provider = Provider("3-128")

    result = client(provider).execute(task, param, context)

    assert result["error"] == 4096
    assert result["message"]
    assert provider.asked == []


def test_answer_out_of_protocol_is_an_error_that_shows_it() -> None:
    result = client(Provider("Sure!")).execute(2, 1, "x")

    assert (result["error"], result["raw_response"]) == (4096, "Sure!")
    assert result["message"]


def test_provider_failure_is_500() -> None:
    result = client(Provider(ConnectionError("no route"))).execute(2, 1, "x")

    assert result["error"] == 500
    assert "no route" in result["message"]


def test_bare_error_code_is_an_answer() -> None:
    assert client(Provider("1024")).execute(2, 1, "x") == {"codes": [1024], "payload": ""}


def test_unknown_provider_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="openai, anthropic"):
        client(Provider(""), "other")
