"""The v2.1 module `client_wrapper`: a model client that speaks only MathProtocol."""

from typing import Any

from mathprotocol import MathProtocol

__all__ = ["MathProtocolClient"]

_PROVIDERS = ("openai", "anthropic")
_MAX_ANSWER_TOKENS = 1024


class MathProtocolClient:
    """Validates locally, asks an OpenAI or Anthropic client at temperature 0, validates the answer."""

    def __init__(self, llm_client: Any, model: str, system_prompt: str, provider: str = "openai") -> None:
        if provider not in _PROVIDERS:
            raise ValueError(f"provider must be one of {', '.join(_PROVIDERS)}")
        self.client = llm_client
        self.model = model
        self.system_prompt = system_prompt
        self.provider = provider
        self.protocol = MathProtocol()

    def execute(self, task_code: int, param_code: int, context: str = "") -> dict[str, Any]:
        """`codes` and `payload` of a valid answer, else a dict with `error` and `message`. Never raises."""
        request = f"{task_code}-{param_code} | {context}" if context else f"{task_code}-{param_code}"
        if not self.protocol.validate_input(request):
            return {
                "error": MathProtocol.ERROR_INVALID_FORMAT,
                "message": "Invalid request: expected a registered task, a Fibonacci param and a one-line context",
            }
        try:
            answer = self._ask(request)
        except Exception as failure:  # noqa: BLE001 the provider's client may raise anything; v2.1 promises a dict
            return {"error": 500, "message": f"{type(failure).__name__}: {failure}"}
        if not self.protocol.validate_response(answer, task_code):
            return {
                "error": MathProtocol.ERROR_INVALID_FORMAT,
                "raw_response": answer,
                "message": "Invalid response: the model did not answer in protocol",
            }
        return self.protocol.parse_response(answer)

    def _ask(self, request: str) -> Any:
        if self.provider == "anthropic":
            message = self.client.messages.create(
                model=self.model,
                system=self.system_prompt,
                messages=[{"role": "user", "content": request}],
                max_tokens=_MAX_ANSWER_TOKENS,
                temperature=0,
            )
            return message.content[0].text
        completion = self.client.chat.completions.create(
            model=self.model,
            messages=[
                {"role": "system", "content": self.system_prompt},
                {"role": "user", "content": request},
            ],
            temperature=0,
        )
        return completion.choices[0].message.content
