"""Key files of a log: made once with the log, readable by their owner only."""

import os
import secrets
from pathlib import Path
from typing import Final

from controlplane.ledger.errors import KeyFileError
from controlplane.ledger.signed import Signers
from ledger.cosignature import signer
from ledger.errors import MalformedError
from ledger.keys import SEED_SIZE, SignatureType, SigningKey, parse_signing_key

LOG_KEY: Final = "log.key"
COSIGNER_KEY: Final = "cosigner.key"
_TYPES: Final = {LOG_KEY: SignatureType.ED25519, COSIGNER_KEY: SignatureType.MLDSA44_COSIGNATURE}


def create(directory: Path, origin: str) -> Signers:
    """Make fresh keys of a log in a new directory. Raises KeyFileError for an origin that cannot be a key's name."""
    directory.mkdir(mode=0o700)
    keys = {}
    for name, signature_type in _TYPES.items():
        try:
            keys[name] = SigningKey(origin, signature_type, secrets.token_bytes(SEED_SIZE))
        except ValueError:
            raise KeyFileError(f"{origin!r} cannot be the origin of a log: no spaces, no '+', not empty") from None
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(keys[name].encode() + "\n")
            file.flush()
            os.fsync(descriptor)
    return Signers(*(signer(key) for key in keys.values()))


def load(directory: Path) -> Signers:
    """The keys of a log. Raises KeyFileError; no message holds a part of a key."""
    keys = [_load(directory / name, signature_type) for name, signature_type in _TYPES.items()]
    if len({key.name for key in keys}) != 1:
        raise KeyFileError(f"the keys in {directory} are of two different logs")
    return Signers(*map(signer, keys))


def _load(path: Path, signature_type: SignatureType) -> SigningKey:
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFileError(f"{path} can be read by others than its owner: chmod 600 it, and consider it stolen")
        key = parse_signing_key(path.read_text().strip())
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    except (MalformedError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} holds no signing key: {type(error).__name__}") from None
    if key.type is not signature_type:
        raise KeyFileError(f"{path} holds a key of type {key.type:#04x}, not {signature_type:#04x}")
    return key
