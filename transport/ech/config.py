"""ECH configurations: what a client may encrypt to (RFC 9849 section 4), and the keys a server opens with.

Parsing and suitability are two questions. A list that is malformed is refused as a whole; a configuration that is well
formed but not for us (another version, an unknown mandatory extension, a public name that is none) is passed over, and
the next one in the server's order of preference is taken.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from transport.ech import hpke
from transport.ech.hpke import CipherSuite, PrivateKey, Random
from transport.tls13.alerts import TlsError
from transport.tls13.wire import Reader, vector

ECH_VERSION: Final = 0xFE0D
"""RFC 9849: the version of a configuration is the code point of the extension."""
MAX_LIST: Final = 1 << 16
"""Bytes of a list without its length."""
MAX_PUBLIC_NAME: Final = 253
"""Characters of a host name; 255 bytes would fit."""
DEFAULT_SUITES: Final = (
    CipherSuite(hpke.HKDF_SHA256, hpke.AES_128_GCM),
    CipherSuite(hpke.HKDF_SHA256, hpke.AES_256_GCM),
    CipherSuite(hpke.HKDF_SHA256, hpke.CHACHA20_POLY1305),
)
"""What a generated configuration offers, best first. AES-128-GCM is the suite that every client has."""

_MANDATORY: Final = 0x8000
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


class EchConfigError(Exception):
    """A list or file of ECH configurations that is malformed, or that this server cannot use."""


@dataclass(frozen=True, slots=True)
class EchConfig:
    """One ECHConfig of version 0xfe0d, well formed. `is_usable` says whether we may encrypt to it."""

    config_id: int
    """0 to 255: tells the server which of its keys to try."""
    kem_id: int
    public_key: bytes
    """In the encoding of the KEM; not checked to be a point before it is used."""
    cipher_suites: tuple[CipherSuite, ...]
    """In the server's order."""
    maximum_name_length: int
    """Bytes up to which inner names are padded; 0 to 255."""
    public_name: str
    """The name in the clear, and the one that a rejecting server must prove to be. ASCII, not checked to be a name."""
    extensions: tuple[tuple[int, bytes], ...] = ()
    """Type and data, each type once. Types from 0x8000 are mandatory; we know none."""

    def encode(self) -> bytes:
        """The ECHConfig with its version and length, as it stands in a list and in the HPKE info."""
        suites = b"".join(suite.kdf_id.to_bytes(2) + suite.aead_id.to_bytes(2) for suite in self.cipher_suites)
        extensions = b"".join(kind.to_bytes(2) + vector(2, data) for kind, data in self.extensions)
        contents = b"".join(
            (
                bytes([self.config_id]),
                self.kem_id.to_bytes(2),
                vector(2, self.public_key),
                vector(2, suites),
                bytes([self.maximum_name_length]),
                vector(1, self.public_name.encode("latin-1")),
                vector(2, extensions),
            )
        )
        return ECH_VERSION.to_bytes(2) + vector(2, contents)

    @property
    def info(self) -> bytes:
        """The HPKE info that binds both ends to this configuration (RFC 9849 section 6.1)."""
        return b"tls ech\0" + self.encode()

    @property
    def suite(self) -> CipherSuite | None:
        """The first cipher suite in the server's order that we support."""
        return next((suite for suite in self.cipher_suites if suite.is_supported), None)

    @property
    def is_usable(self) -> bool:
        """Whether a client may encrypt to it (RFC 9849 sections 4.2, 6.1 and 6.1.7)."""
        return (
            len(self.public_key) == hpke.PUBLIC_KEY_LENGTH.get(self.kem_id)
            and self.suite is not None
            and not any(kind & _MANDATORY for kind, _ in self.extensions)
            and is_public_name(self.public_name)
        )


@dataclass(frozen=True, slots=True)
class EchKey:
    """A configuration and its private key: what a server opens hellos with."""

    config: EchConfig
    private_key: PrivateKey = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises EchConfigError if the key is not the one of the configuration."""
        if not is_pair(self.config, self.private_key):
            raise EchConfigError("the private key is not the one of this ECH configuration")


def parse_config_list(data: bytes) -> tuple[EchConfig, ...]:
    """The configurations of version 0xfe0d in an ECHConfigList, in order; other versions are skipped.

    The result may be empty, and what is in it need not be usable. Raises EchConfigError if `data` is no list.
    """
    if len(data) > 2 + MAX_LIST:
        raise EchConfigError(f"an ECHConfigList has at most {2 + MAX_LIST} bytes, this one has {len(data)}")
    try:
        outer = Reader(data, "ECHConfigList")
        reader = outer.inside(2)
        outer.finish()
        if not reader.left:
            raise EchConfigError("an ECHConfigList has one configuration or more, this one has none")
        return tuple(_configs(reader))
    except TlsError as error:
        raise EchConfigError(error.why) from None


def encode_config_list(configs: Iterable[EchConfig]) -> bytes:
    """The ECHConfigList of these configurations. Raises EchConfigError if there are none or too many."""
    encoded = b"".join(config.encode() for config in configs)
    if not encoded or len(encoded) >= MAX_LIST:
        raise EchConfigError("an ECHConfigList has one configuration or more, and less than 65536 bytes")
    return vector(2, encoded)


def choose_config(configs: Iterable[EchConfig]) -> EchConfig | None:
    """The first usable configuration in the server's order of preference."""
    return next((config for config in configs if config.is_usable), None)


def generate_key(  # one argument for each field of the configuration
    public_name: str,
    random: Random,
    *,
    live_ids: Iterable[int] = (),
    maximum_name_length: int = 64,
    kem_id: int = hpke.DHKEM_X25519,
    cipher_suites: Sequence[CipherSuite] = DEFAULT_SUITES,
) -> EchKey:
    """A new key whose config_id none of the keys in use has.

    RFC 9849 section 4.1: "randomly select config_id repeatedly until it does not match any known ECHConfig". Raises
    EchConfigError for a public name that clients would pass over, and if all 256 ids are in use.
    """
    if not is_public_name(public_name):
        raise EchConfigError("the public name is no host name, or looks like an address; clients would not use it")
    taken = frozenset(live_ids)
    if len(taken) >= 256:
        raise EchConfigError("all 256 config_ids are in use; retire old keys first")
    config_id = random(1)[0]
    while config_id in taken:
        config_id = random(1)[0]
    private_key = hpke.generate_key(kem_id, random)
    public_key = hpke.public_bytes(private_key)
    config = EchConfig(config_id, kem_id, public_key, tuple(cipher_suites), maximum_name_length, public_name)
    return EchKey(config, private_key)


def is_pair(config: EchConfig, private_key: PrivateKey) -> bool:
    """Whether `private_key` opens what is sealed to `config`."""
    return config.kem_id == hpke.kem_of(private_key) and config.public_key == hpke.public_bytes(private_key)


def is_public_name(name: str) -> bool:
    """RFC 9849 section 6.1.7: dot-separated LDH labels of at most 63 octets, and nothing like an IPv4 address."""
    labels = name.split(".")
    return (
        len(name) <= MAX_PUBLIC_NAME
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


def _configs(reader: Reader) -> Iterator[EchConfig]:
    while reader.left:
        version = reader.integer(2)
        contents = reader.inside(2)
        # RFC 9849 section 4: "Clients MUST ignore any ECHConfig structure with a version they do not support."
        if version == ECH_VERSION:
            yield _contents(contents)


def _contents(reader: Reader) -> EchConfig:
    """ECHConfigContents, which must fill its length exactly."""
    config = EchConfig(
        config_id=reader.integer(1),
        kem_id=reader.integer(2),
        public_key=reader.vector(2, least=1),
        cipher_suites=_suites(reader),
        maximum_name_length=reader.integer(1),
        public_name=reader.vector(1, least=1).decode("latin-1"),
        extensions=_extensions(reader.inside(2)),
    )
    reader.finish()
    return config


def _suites(reader: Reader) -> tuple[CipherSuite, ...]:
    pairs = reader.integers(2, 4)
    return tuple(CipherSuite(pair >> 16, pair & 0xFFFF) for pair in pairs)


def _extensions(reader: Reader) -> tuple[tuple[int, bytes], ...]:
    found: dict[int, bytes] = {}
    while reader.left:
        kind = reader.integer(2)
        data = reader.vector(2)
        if kind in found:
            # RFC 9849 section 4.2: "there MUST NOT be more than one extension of the same type".
            raise reader.malformed("has the same extension twice")
        found[kind] = data
    return tuple(found.items())
