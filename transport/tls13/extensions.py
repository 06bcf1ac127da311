"""What the extensions mean: strict parsing and building of their bodies (RFC 8446 section 4.2, RFC 6066, RFC 7301)."""

from typing import Final

from transport.tls13.alerts import AlertDescription, TlsError, illegal_parameter
from transport.tls13.constants import TLS13
from transport.tls13.wire import Reader, integers, vector

MAX_HOST_NAME: Final = 255
"""Characters, RFC 1035 section 2.3.4."""
_HOST_NAME: Final = b"\0"
"""NameType of the only kind of server name there is."""


def server_name(name: str) -> bytes:
    """The body in a ClientHello. Raises UnicodeEncodeError: a name is in A-labels."""
    return vector(2, _HOST_NAME + vector(2, name.encode("ascii")))


def parse_server_name(data: bytes) -> str:
    """RFC 6066 section 3: one host_name, in ASCII, without a dot at the end; lower case in the result."""
    reader = Reader(data, "server_name")
    names = reader.inside(2)
    kind, name = names.take(1), names.vector(2, least=1, most=MAX_HOST_NAME)
    names.finish()
    reader.finish()
    if kind != _HOST_NAME or not all(0x21 <= byte <= 0x7E for byte in name) or name.endswith(b"."):
        raise reader.malformed("is not a host name")
    return name.decode("ascii").lower()


def alpn(protocols: tuple[bytes, ...]) -> bytes:
    """The body of application_layer_protocol_negotiation, in both roles. Each name has 1 to 255 bytes."""
    return vector(2, b"".join(vector(1, name) for name in protocols))


def parse_alpn(data: bytes) -> tuple[bytes, ...]:
    """RFC 7301 section 3.1: "Empty strings MUST NOT be included"; at least one name."""
    reader = Reader(data, "ALPN")
    inner = reader.inside(2)
    names = [inner.vector(1, least=1)]
    while inner.left:
        names.append(inner.vector(1, least=1))
    reader.finish()
    return tuple(names)


def parse_selected_alpn(data: bytes) -> bytes:
    """RFC 7301 section 3.1: the server's list "MUST contain exactly one" name."""
    names = parse_alpn(data)
    if len(names) != 1:
        raise TlsError(AlertDescription.DECODE_ERROR, "the server selected more than one application protocol")
    return names[0]


def code_points(values: tuple[int, ...]) -> bytes:
    """The body of supported_groups, and of signature_algorithms."""
    return integers(2, 2, values)


def parse_code_points(data: bytes) -> tuple[int, ...]:
    """The body of supported_groups, and of signature_algorithms: one at least."""
    reader = Reader(data, "list of code points")
    values = reader.integers(2, 2)
    reader.finish()
    return values


def supported_versions() -> bytes:
    """The body in our ClientHello: TLS 1.3 and nothing else."""
    return integers(1, 2, (TLS13,))


def parse_supported_versions(data: bytes) -> tuple[int, ...]:
    """The body in a ClientHello."""
    reader = Reader(data, "supported_versions")
    values = reader.integers(1, 2)
    reader.finish()
    return values


def parse_code_point(data: bytes) -> int:
    """The body of supported_versions in a ServerHello, and of key_share in a HelloRetryRequest."""
    if len(data) != 2:
        raise TlsError(AlertDescription.DECODE_ERROR, "an extension is not one code point")
    return int.from_bytes(data, "big")


def key_share(group: int, key: bytes) -> bytes:
    """One KeyShareEntry: the body in a ServerHello."""
    return group.to_bytes(2, "big") + vector(2, key)


def key_shares(entries: tuple[tuple[int, bytes], ...]) -> bytes:
    """The body in a ClientHello."""
    return vector(2, b"".join(key_share(group, key) for group, key in entries))


def parse_key_share(data: bytes) -> tuple[int, bytes]:
    """(group, key_exchange) of the body in a ServerHello."""
    reader = Reader(data, "key_share")
    entry = reader.integer(2), reader.vector(2, least=1)
    reader.finish()
    return entry


def parse_key_shares(data: bytes) -> dict[int, bytes]:
    """The body in a ClientHello: key_exchange by group, in the client's order; may be empty.

    RFC 8446 section 4.2.8: "Clients MUST NOT offer multiple KeyShareEntry values for the same group."
    """
    reader = Reader(data, "key_share")
    inner = reader.inside(2)
    shares: dict[int, bytes] = {}
    while inner.left:
        group, key = inner.integer(2), inner.vector(2, least=1)
        if group in shares:
            raise illegal_parameter("two key shares of one group")
        shares[group] = key
    reader.finish()
    return shares


def cookie(value: bytes) -> bytes:
    """The body in both roles."""
    return vector(2, value)


def parse_cookie(data: bytes) -> bytes:
    """The cookie, 1 to 2^16 - 3 bytes."""
    reader = Reader(data, "cookie")
    value = reader.vector(2, least=1)
    reader.finish()
    return value
