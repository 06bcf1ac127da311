"""What the demo found out about one exchange."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Proof:
    """One verified leaf and what it commits to."""

    file: Path
    """The `.tlog-proof`."""
    index: int
    size: int
    """Leaves in the tree that the checkpoint signs."""
    root: str
    """Hex."""
    origin: str
    result: str
    """What the leaf says of how the exchange ended."""
    revision: int
    """What the leaf says of the policy in force."""
    findings: Mapping[str, int]
    """What the opening of the leaf says was taken out."""
    request_sha256: str
    """What the opening of the leaf says left the pod."""


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
    proof: Proof

    def failures(self) -> list[str]:
        """Why this is not what the product promises; empty: it is."""
        found = [f"{value} reached the model" for value in self.identifiers if value in self.seen_body]
        found += [f"{value} did not come back" for value in self.identifiers if value not in self.received]
        if self.proof.request_sha256 != hashlib.sha256(self.seen_body.encode()).hexdigest():
            found.append("the audit leaf commits to other bytes than those that the model saw")
        return found
