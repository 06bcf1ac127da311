"""Who is on the other end of a gRPC call. The certificate says so, and nothing else is ever believed."""

from collections.abc import Sequence
from typing import Any, Protocol

from controlplane.identity.spiffe import IdentityError, SpiffeId


class AuthenticatedCall(Protocol):
    """What of `grpc.aio.ServicerContext` is needed here."""

    def auth_context(self) -> Any:
        """Property name -> values, as gRPC found them in the verified certificate."""


def peer_of(call: AuthenticatedCall, trust_domain: str) -> SpiffeId:
    """The SPIFFE id in the peer's certificate. Raises IdentityError unless there is exactly one, of our trust domain.

    That the certificate was issued by our CA was checked in the handshake.
    """
    uris: Sequence[bytes] = call.auth_context().get("peer_uri") or ()
    if len(uris) != 1:
        raise IdentityError(f"the certificate names {len(uris)} URIs; an SVID names exactly one")
    try:
        peer = SpiffeId.parse(uris[0].decode("ascii"))
    except UnicodeDecodeError:
        raise IdentityError("the certificate's URI is not ASCII") from None
    if peer.trust_domain != trust_domain:
        raise IdentityError(f"{peer} is of another trust domain than {trust_domain}")
    return peer
