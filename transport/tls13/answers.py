"""Where a server may answer which extension of a hello (the table of RFC 8446 section 4.2, RFC 9849 section 5)."""

from typing import Final

from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter
from transport.tls13.constants import ExtensionType
from transport.tls13.messages import ClientHello, Extensions

_IN_SERVER_HELLO: Final = frozenset({ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE})
_IN_RETRY_REQUEST: Final = _IN_SERVER_HELLO | {ExtensionType.COOKIE, ExtensionType.ENCRYPTED_CLIENT_HELLO}
_NOT_ENCRYPTED: Final = _IN_SERVER_HELLO | {ExtensionType.COOKIE, ExtensionType.SIGNATURE_ALGORITHMS}


def check_server_hello(found: Extensions, hello: ClientHello) -> None:
    """Raises TlsError: unsupported_extension for what `hello` did not offer, illegal_parameter if it is misplaced."""
    for extension in found:
        _check(extension.type, hello, fits=extension.type in _IN_SERVER_HELLO)


def check_retry_request(found: Extensions, hello: ClientHello) -> None:
    """As `check_server_hello`; a cookie comes without being asked for."""
    for extension in found:
        _check(extension.type, hello, fits=extension.type in _IN_RETRY_REQUEST)


def check_encrypted_extensions(found: Extensions, hello: ClientHello) -> None:
    """As `check_server_hello`; here is the place of all that has none elsewhere."""
    for extension in found:
        _check(extension.type, hello, fits=extension.type not in _NOT_ENCRYPTED)


def _check(kind: int, hello: ClientHello, *, fits: bool) -> None:
    if hello.extension(kind) is None and kind != ExtensionType.COOKIE:
        raise TlsError(AlertDescription.UNSUPPORTED_EXTENSION, "the server answers what was not offered")
    if not fits:
        raise illegal_parameter("the server has an extension where it must not be")
