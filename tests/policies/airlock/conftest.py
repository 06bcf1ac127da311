"""What the airlock's tests share."""

from collections.abc import Callable
from typing import Any

import pytest

from policies.airlock.config import AirlockConfig
from policies.airlock.redact import AirlockPolicy
from policies.airlock.scan import Scanner
from policies.model import DialectName, Exchange, ExchangeId, PolicyRun, UnixNanos

KEY = bytes(range(32))
NOW = UnixNanos(0)


def exchange(**changes: Any) -> Exchange:
    """A chat of the peer `local`."""
    given: dict[str, Any] = {"peer": "local", "dialect": DialectName.OPENAI_CHAT} | changes
    return Exchange(id=ExchangeId("x"), model="m", route="r", stream=True, started_at=NOW, **given)


@pytest.fixture(scope="session")
def scanner() -> Scanner:
    """One engine for the session: it compiles for half a second."""
    return Scanner()


@pytest.fixture(scope="session")
def labelled(scanner: Scanner) -> Callable[[str], list[tuple[str, str]]]:
    """text -> (label, value) of everything found in it."""
    return lambda text: [(span.label.value, text[span.start : span.end]) for span in scanner.scan(text)]


@pytest.fixture
def opened() -> Callable[..., PolicyRun]:
    """config, exchange changes -> a run of a policy under KEY."""
    return lambda config=None, **changes: AirlockPolicy(config or AirlockConfig(), KEY).open(exchange(**changes))
