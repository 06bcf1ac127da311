"""Settings of `aegis gateway`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from settings import Address, ByteSize, Finding, Range, Seconds, Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The MathProtocol gateway."""

    listen: Address = Address("127.0.0.1", 15090)
    """Where applications ask. Answers hold restored values: keep it on loopback."""
    upstream: str = "http://127.0.0.1:15080/openai/v1"
    """OpenAI-compatible base URL that answers single tasks: the sidecar."""
    model: str = "default"
    """Name of the model that is asked for."""
    timeout: Annotated[Seconds, Range(0.1, 600)] = 60.0
    """For one answer of the model, or between two pieces of a streamed one."""
    max_request: Annotated[ByteSize, Range(1024, 1 << 26)] = 1 << 20
    """Largest request."""
    max_stream: Annotated[ByteSize, Range(1024, 1 << 26)] = 1 << 20
    """Largest payload of a streamed answer."""
    max_concurrent: Annotated[int, Range(1, 10_000)] = 256
    """Requests in progress; one more is refused with 503."""
    cache: Annotated[ByteSize, Range(0, 1 << 30)] = 16 << 20
    """Memory for answers of stages of chains; 0: none."""
    breaker_threshold: Annotated[int, Range(1, 1000)] = 5
    """Failures in a row after which a stage is not asked for a while."""
    breaker_cooldown: Annotated[Seconds, Range(0.1, 3600)] = 30.0
    """That while."""
    data: Path = Path("~/.local/state/aegis/gateway")
    """Directory of what must outlive the process: dead letters, and the key that their texts are sealed under."""
    dead_letters: Annotated[int, Range(0, 10_000)] = 256
    """Failed chains that are kept, with what their stages gave; texts are sealed."""
    dead_letter_size: Annotated[ByteSize, Range(1 << 16, 1 << 32)] = 64 << 20
    """Their texts together. One that is larger by itself is not kept."""
    dead_letter_age: Annotated[Seconds, Range(60, 31_536_000)] = 604_800.0
    """After which they are deleted."""
    plugins: tuple[Path, ...] = ()
    """Folders of task plugins."""
    token: Secret = field(default="", repr=False)
    """What callers must send as `x-aegis-token`; needed when `listen` is not a loopback address."""
    plugins_registered: bool = False
    """Whether the sidecar's ProtocolPolicy registers the plugins (`aegis protocol plugins --policy`). Templates need it
    where the route enforces the protocol; code runs in the sidecar then (its `--plugins`)."""

    def check(self) -> Iterable[Finding]:
        """The upstream must be a web address, and strangers must not be able to ask."""
        if not self.upstream.startswith(("http://", "https://")):
            yield Finding("upstream", f"expected http:// or https://, got {self.upstream!r}")
        if not self.listen.is_loopback and not self.token:
            yield Finding("token", f"is needed to listen on {self.listen}: set AEGIS_GATEWAY_TOKEN", also=("listen",))
