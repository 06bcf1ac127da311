"""What the demo found out about one exchange."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Proof:
    """One leaf and why it stands in the log."""

    file: Path
    """The `.tlog-proof`."""
    index: int
    size: int
    """Leaves in the tree that the checkpoint signs."""
    root: bytes
    hashes: int
    """Length of the inclusion path."""
    origin: str
    result: str
    """What the leaf says of how the exchange ended."""
    revision: int
    """What the leaf says of the policy in force."""
    leaf: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Scene:
    """One prompt, from the application to the model and back. The identifiers in it are invented."""

    title: str
    identifiers: tuple[str, ...]
    """What must not reach the model and must come back."""
    sent: str
    """What the application sent."""
    seen: str
    """What the model saw of it."""
    seen_body: str
    """The whole request body that reached the model."""
    received: str
    """What came back to the application."""
    pieces: int
    """In how many pieces; 1: not streamed."""
    proof: Proof | None = None

    def failures(self) -> list[str]:
        """Why this is not what the product promises; empty: it is."""
        found = [f"{value!r} reached the model" for value in self.identifiers if value in self.seen_body]
        found += [f"{value!r} did not come back" for value in self.identifiers if value not in self.received]
        if self.proof is None:
            found.append("no proof of the exchange")
        return [f"{self.title}: {failure}" for failure in found]
