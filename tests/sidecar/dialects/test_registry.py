"""Which dialect a request speaks."""

import pytest

from policies.model import DialectName
from sidecar.dialects.registry import Dialects


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", DialectName.OPENAI_CHAT),
        ("/api/v1/chat/completions", DialectName.OPENAI_CHAT),
        ("/openai/deployments/gpt-4o/chat/completions", DialectName.OPENAI_CHAT),
        ("/v1/completions", DialectName.OPENAI_COMPLETIONS),
        ("/v1/fim/completions", DialectName.GENERIC),
        ("/v1/embeddings", DialectName.OPENAI_EMBEDDINGS),
        ("/v1/messages", DialectName.ANTHROPIC_MESSAGES),
        ("/v1/messages/count_tokens", DialectName.ANTHROPIC_MESSAGES),
        ("/v1/messages/batches", DialectName.GENERIC),
        ("/v1/threads/t_1/messages", DialectName.GENERIC),
        ("/v1/chat/completions/", DialectName.GENERIC),
        ("/v1/%63hat/completions", DialectName.GENERIC),
        ("/v1/responses", DialectName.OPENAI_RESPONSES),
        ("/v1/responses/resp_1", DialectName.GENERIC),
        ("/v1/models", DialectName.GENERIC),
    ],
)
def test_path_decides(path: str, name: DialectName) -> None:
    assert Dialects().choose("POST", path, {}).name is name


def test_other_methods_on_known_paths_are_unknown_endpoints() -> None:
    assert Dialects().choose("GET", "/v1/chat/completions", {}).name is DialectName.GENERIC


def test_unknown_endpoints_refuse_in_the_words_of_their_provider_family() -> None:
    dialects = Dialects()

    openai = dialects.choose("POST", "/v1/x", {}).error(403, "aegis_x", "no", "R")
    anthropic = dialects.choose("POST", "/v1/x", {"anthropic-version": "2023-06-01"}).error(403, "aegis_x", "no", "R")

    assert openai == b'{"error":{"message":"no","type":"permission_error","param":null,"code":"aegis_x"}}'
    assert anthropic == (
        b'{"type":"error","error":{"type":"permission_error","message":"no (aegis_x)"},"request_id":"R"}'
    )
