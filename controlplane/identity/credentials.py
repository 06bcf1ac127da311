"""TLS of a gRPC server from identity files that may be renewed while it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from controlplane.identity.identity import Identity
from controlplane.identity.spiffe import IdentityError

Warn = Callable[[str], None]


def server_credentials(directory: Path, warn: Warn) -> grpc.ServerCredentials:
    """Mutual TLS; the files are looked at for every handshake, so a renewed certificate needs no restart.

    Files that cannot be used at that moment leave what was used before; `warn` is told. Raises IdentityError if there
    is nothing to begin with.
    """
    current = Identity.read(directory)

    def fetch() -> Any:  # a configuration, or None for no change: the stubs do not know the latter
        nonlocal current
        try:
            fresh = Identity.read(directory)
        except IdentityError as error:
            warn(str(error))
            return None
        if fresh == current:
            return None
        current = fresh
        return _configuration(fresh)

    return grpc.dynamic_ssl_server_credentials(_configuration(current), fetch, require_client_authentication=True)


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key_pem, identity.cert_pem)], root_certificates=identity.ca_pem
    )
