"""EncodedClientHelloInner: the inner hello as it is sealed (RFC 9849 section 5.1), compressed and padded."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final

from transport.ech.extension import is_inner
from transport.tls13.alerts import AlertDescription, TlsError
from transport.tls13.constants import TLS12, ExtensionType
from transport.tls13.messages import ClientHello, Extension, Extensions
from transport.tls13.wire import Reader, integers

_NAME_OVERHEAD: Final = 5
"""Bytes of a server_name extension besides the name: length of the list, type, length of the name."""


def encode_inner(inner: ClientHello, compress: Collection[int], maximum_name_length: int) -> bytes:
    """What is sealed. `compress` are types of extensions that the outer hello carries likewise.

    Those of them that are in `inner` must stand next to each other there; raises ValueError otherwise. Types that are
    not in `inner` are passed over, so that one constant serves both hellos of a connection.
    """
    extensions = _compressed(inner.extensions, compress)
    encoded = replace(inner, session_id=b"", extensions=extensions).encode()
    return encoded + bytes(_padding(len(encoded), inner, maximum_name_length))


def decode_inner(encoded: bytes, outer: ClientHello) -> ClientHello:
    """The ClientHelloInner that was sealed into `outer`, with nothing left to expand.

    Takes time linear in both. What comes back is at most as long as both together: each extension of the outer hello is
    copied once (RFC 9849 section 10.12.4, packet amplification). Raises TlsError.
    """
    hello, end = ClientHello.parse_prefix(encoded)
    if any(encoded[end:]):
        raise _illegal("the padding of the inner hello is not zero")
    if hello.session_id:
        raise _illegal("the encoded inner hello has a session id of its own")
    extensions = tuple(_expanded(hello.extensions, outer))
    if len({extension.type for extension in extensions}) != len(extensions):
        raise _illegal("the inner hello has an extension both of its own and from the outer hello")
    inner = replace(hello, session_id=outer.session_id, extensions=extensions)
    if not is_inner(inner):
        raise _illegal("the inner hello does not say that it is one")
    _check_versions(inner)
    return inner


def _compressed(extensions: Extensions, compress: Collection[int]) -> Extensions:
    """RFC 9849 section 5.1: the removed extensions are contiguous, and the reference stands in their place."""
    places = [place for place, extension in enumerate(extensions) if extension.type in compress]
    if not places:
        return extensions
    first, last = places[0], places[-1]
    if len(places) != last - first + 1:
        raise ValueError("the extensions to compress must be next to each other in the inner hello")
    reference = integers(1, 2, tuple(extensions[place].type for place in places))
    return (
        *extensions[:first],
        Extension(ExtensionType.ECH_OUTER_EXTENSIONS, reference),
        *extensions[last + 1 :],
    )


def _padding(length: int, inner: ClientHello, maximum_name_length: int) -> int:
    """RFC 9849 section 6.1.3: the name up to the maximum of the configuration, then all up to a multiple of 32."""
    name = inner.extension(ExtensionType.SERVER_NAME)
    if name is None:
        padding = maximum_name_length + 9
    else:
        padding = max(0, maximum_name_length - (len(name.data) - _NAME_OVERHEAD))
    return padding + 31 - (length + padding - 1) % 32


def _expanded(extensions: Extensions, outer: ClientHello) -> Iterator[Extension]:
    """The extensions with those of the outer hello in place of the reference to them.

    One cursor walks over the outer hello, once: what is missing there, referenced twice or out of order is not found
    ahead of it.
    """
    for extension in extensions:
        if extension.type != ExtensionType.ECH_OUTER_EXTENSIONS:
            yield Extension(extension.type, extension.data)
            continue
        cursor = iter(outer.extensions)
        for kind in _references(extension):
            found = next((candidate for candidate in cursor if candidate.type == kind), None)
            if found is None:
                raise _illegal("ech_outer_extensions refers to what is not there, not there in this order, or twice")
            yield Extension(found.type, found.data)


def _references(extension: Extension) -> tuple[int, ...]:
    """OuterExtensions<2..254>, none of them about ECH itself."""
    reader = Reader(extension.data, "ech_outer_extensions")
    kinds = reader.integers(1, 2)
    reader.finish()
    if ExtensionType.ENCRYPTED_CLIENT_HELLO in kinds or ExtensionType.ECH_OUTER_EXTENSIONS in kinds:
        raise _illegal("ech_outer_extensions refers to an extension of ECH itself")
    return kinds


def _check_versions(inner: ClientHello) -> None:
    """RFC 9849 section 7.1: the inner hello "does not offer TLS 1.2 or below"; without the extension it does."""
    extension = inner.extension(ExtensionType.SUPPORTED_VERSIONS)
    if extension is None:
        raise _illegal("the inner hello does not offer TLS 1.3")
    reader = Reader(extension.data, "supported_versions")
    versions = reader.integers(1, 2)
    reader.finish()
    if any(version <= TLS12 for version in versions):
        raise _illegal("the inner hello offers TLS 1.2 or older")


def _illegal(why: str) -> TlsError:
    return TlsError(AlertDescription.ILLEGAL_PARAMETER, why)
