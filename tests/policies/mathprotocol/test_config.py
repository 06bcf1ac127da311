"""ProtocolConfig: the values a policy document compiles to."""

import pytest

from policies.mathprotocol.config import ProtocolConfig


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"tasks: .*trap_primes: .*ban_seconds: .*max_protocol_retries: ") as refused:
        ProtocolConfig(tasks=frozenset({4}), trap_primes=frozenset({4}), ban_seconds=-1, max_protocol_retries=9)

    assert refused.value.args[0].count(";") == 4


def test_task_that_is_served_cannot_be_a_trap() -> None:
    with pytest.raises(ValueError, match="cannot be a trap"):
        ProtocolConfig(trap_primes=frozenset({2}))
