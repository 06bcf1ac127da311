"""Takes identifiers out of a prompt and opens the way back for them."""

from policies.airlock.config import AirlockConfig
from policies.model import Exchange, PolicyRun


class AirlockPolicy:
    """The airlock as a policy of a pipeline. Shared by every exchange of a snapshot; usable from several threads."""

    def __init__(self, config: AirlockConfig, tenant_key: bytes, *, name: str = "airlock") -> None:
        """`tenant_key`: 32 secret bytes, the same on every sidecar of a tenant, else tokens change between turns."""
        if len(tenant_key) < 32:
            raise ValueError("tenant_key must be at least 32 bytes")
        self.name = name
        self.config = config
        self._tenant_key = tenant_key

    def open(self, exchange: Exchange) -> PolicyRun:
        """A fresh run for one exchange."""
        raise NotImplementedError
