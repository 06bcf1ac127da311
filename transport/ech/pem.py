"""ECH keys in files (RFC 9934): a PKCS#8 private key, then an ECHConfigList, both in PEM."""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from transport.ech.config import EchConfig, EchConfigError, EchKey, encode_config_list, is_pair, parse_config_list
from transport.ech.hpke import PrivateKey

MAX_FILE: Final = 1 << 17
"""Bytes: the largest list in base64, and a key."""
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----\s([A-Za-z0-9+/=\s]*)-----END \1-----")
_LINE: Final = 64


@dataclass(frozen=True, slots=True)
class EchFile:
    """What stood in a file."""

    configs: tuple[EchConfig, ...]
    """In the order of preference; those of other versions are left out."""
    config_list: bytes
    """The ECHConfigList as it stood there, for publication."""
    private_key: PrivateKey | None = field(repr=False)
    """None in a file that was made for publication only."""

    @property
    def keys(self) -> tuple[EchKey, ...]:
        """The configurations that the private key opens. Raises EchConfigError if there are none."""
        if self.private_key is None:
            raise EchConfigError("the file has no private key")
        return tuple(EchKey(c, self.private_key) for c in self.configs if is_pair(c, self.private_key))


def parse_pem(data: bytes) -> EchFile:
    """RFC 9934 section 3: no private key or one, then one ECHConfigList; what follows is ignored.

    Raises EchConfigError, also for an encrypted key and for a key that none of the configurations belongs to.
    """
    if len(data) > MAX_FILE:
        raise EchConfigError(f"a file of ECH keys has at most {MAX_FILE} bytes, this one has {len(data)}")
    private_key: PrivateKey | None = None
    for block in _BLOCK.finditer(data):
        match block[1]:
            case b"PRIVATE KEY" if private_key is None:
                private_key = _private_key(block[0])
            case b"ECHCONFIG":
                config_list = _decode(block[2])
                configs = parse_config_list(config_list)
                if private_key is not None and not any(is_pair(config, private_key) for config in configs):
                    raise EchConfigError("the private key belongs to none of the configurations in the file")
                return EchFile(configs, config_list, private_key)
            case label:
                raise EchConfigError(f"unexpected PEM block: {label.decode()}")
    raise EchConfigError("the file has no ECHCONFIG block")


def encode_pem(key: EchKey, others: Sequence[EchConfig] = ()) -> bytes:
    """The file of `key`; `others` follow its configuration in the list, less preferred. Holds the private key."""
    pkcs8 = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pkcs8 + encode_public_pem((key.config, *others))


def encode_public_pem(configs: Sequence[EchConfig]) -> bytes:
    """The file without a private key."""
    text = b64encode(encode_config_list(configs))
    lines = (text[start : start + _LINE] for start in range(0, len(text), _LINE))
    return b"-----BEGIN ECHCONFIG-----\n" + b"\n".join(lines) + b"\n-----END ECHCONFIG-----\n"


def _private_key(block: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(block, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        # InternalError: a key of X448 that has not its length, as fuzzing found.
        raise EchConfigError("the private key is no PKCS#8 key that can be read") from None
    if isinstance(key, X25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise EchConfigError("the private key is neither of X25519 nor of P-256")


def _decode(text: bytes) -> bytes:
    try:
        return b64decode(b"".join(text.split()), validate=True)
    except ValueError:
        raise EchConfigError("the ECHCONFIG block is no base64") from None
