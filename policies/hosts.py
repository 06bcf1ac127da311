"""Names of machines, as policy documents may write them."""


def is_host(host: str) -> bool:
    """Whether `host`, a name or an address without brackets, can be looked up at all: RFC 1035 section 2.3.4, labels of
    1 to 63 octets, 253 of them together. For any other Python's resolvers raise UnicodeError, which is no OSError."""
    return len(host) <= 253 and all(1 <= len(label) <= 63 for label in host.removesuffix(".").split("."))
