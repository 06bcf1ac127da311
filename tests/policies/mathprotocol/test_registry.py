"""Specification section 1 and the registration rules of section 4."""

import pytest

from policies.mathprotocol.codes import Kind
from policies.mathprotocol.registry import Registry


def test_registering_leaves_the_old_registry_alone() -> None:
    old = Registry()

    new = old.with_task(31, "Rhyme", Kind.CLASSIFICATION)

    assert 31 not in old.tasks
    assert new.tasks[31] == "Rhyme"
    assert new.kind(31) is Kind.CLASSIFICATION
    assert old.kind(31) is None


@pytest.mark.parametrize("number", [0, 1, 4, -2, 101, 2.0, True, "2"])
def test_only_primes_of_the_set_are_tasks(number: object) -> None:
    with pytest.raises(ValueError, match="primes"):
        Registry().with_task(number, "x")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("number", [0, 4, 144, True])
def test_only_fibonacci_numbers_of_the_set_are_params(number: int) -> None:
    with pytest.raises(ValueError, match="Fibonacci"):
        Registry().with_param(number, "x")


@pytest.mark.parametrize("code", [0, 3, -2, True])
def test_only_powers_of_two_are_flags(code: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Registry().with_response(code, "x")


def test_flags_beyond_4096_can_be_registered_and_read() -> None:
    registry = Registry().with_response(8192, "Portuguese")

    assert registry.flags(8193) == ["SUCCESS_BIT", "Portuguese"]
    assert registry.flags(-1) == []
