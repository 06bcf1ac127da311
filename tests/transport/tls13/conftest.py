import pytest

from tests.fakes.tls13 import KEYS, Pki
from transport.tls13.certificates import Credential


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="session")
def credentials(pki: Pki) -> dict[str, Credential]:
    """One for service.internal with each kind of key."""
    return {kind: pki.credential("service.internal", kind=kind) for kind in KEYS}
