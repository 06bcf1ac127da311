"""SPIFFE ids: what a certificate says about who its holder is, and what that holder may do.

Source: SPIFFE-ID specification, sections 2.1 (trust domain) and 2.2 (path).
"""

import re
from dataclasses import dataclass
from enum import Enum

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_MAX_BYTES = 2048


class IdentityError(Exception):
    """A name, certificate or key is not what it has to be. Never holds key material."""


class Role(Enum):
    """What the holder of an id may do. Decided by the first segment of its path."""

    SIDECAR = "sidecar"
    OPERATOR = "operator"
    CONTROL_PLANE = "controlplane"
    LEDGER = "ledger"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """`spiffe://<trust_domain>/<path>`, validated."""

    trust_domain: str
    path: str
    """Without the leading slash, never empty: `operator/alice`, `ns/app/sa/default`."""

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise IdentityError(f"trust domain {self.trust_domain!r}: use lower-case letters, digits, dots, dashes")
        segments = self.path.split("/")
        if not all(_SEGMENT.fullmatch(s) and s not in (".", "..") for s in segments) or len(str(self)) > _MAX_BYTES:
            raise IdentityError(f"SPIFFE path {self.path!r}: use segments of letters, digits, '.', '-', '_'")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.path}"

    @classmethod
    def parse(cls, uri: str) -> "SpiffeId":
        """The id that `uri` spells. Raises IdentityError."""
        scheme, _, rest = uri.partition("://")
        trust_domain, _, path = rest.partition("/")
        if scheme != "spiffe" or not path:
            raise IdentityError(f"{uri!r} is not spiffe://<trust domain>/<path>")
        return cls(trust_domain, path)

    @property
    def role(self) -> Role:
        """`sidecar/...` and `ns/<ns>/sa/<sa>` (the Kubernetes form) are sidecars."""
        match self.path.split("/"):
            case ["sidecar", _, *_] | ["ns", _, "sa", _]:
                return Role.SIDECAR
            case ["operator", _, *_]:
                return Role.OPERATOR
            case ["controlplane", _, *_]:
                return Role.CONTROL_PLANE
            case ["ledger", _, *_]:
                return Role.LEDGER
            case _:
                return Role.OTHER
