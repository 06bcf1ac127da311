"""The last known good policies on disk, sealed: what a sidecar enforces when it starts and nobody answers.

AES-256-GCM under a key that only this sidecar can read; the sidecar's name is authenticated with it, so that the file
of another sidecar is refused. The key is a file of its own and not derived from the certificate's key: certificates
are renewed daily, and an outage is exactly when the old one may have run out.

Limits: whoever can write the file can put an older one in its place, and whoever can read the key can forge it.
"""

import errno
import os
from pathlib import Path
from typing import Final

from aegispb.v1 import lkg_pb2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf.message import DecodeError

from settings.private_file import scratch_beside

MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes."""
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_MAGIC: Final = b"aegis-lkg/1\n"


class LastKnownGoodError(Exception):
    """The file is there but must not be believed. Says which file and what to do, never what is in it."""


class LastKnownGoodFile:
    """One sealed file. Calls block on the disk: keep them off an event loop."""

    def __init__(self, path: Path, key: bytes, owner: str) -> None:
        """`key`: 32 secret bytes. `owner`: name of the sidecar (its SPIFFE id)."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"expected a key of {KEY_BYTES} bytes")
        self._path = path
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=b"aegis last known good").derive(key))
        self._bound = _MAGIC + owner.encode()

    def write(self, kept: lkg_pb2.LastKnownGood, nonce: bytes) -> None:
        """Replace the file. `nonce`: 12 fresh random bytes. A crash leaves the old file or the new one, never a mix.

        Raises OSError, also for more than `read` would take: what is there is better than what cannot be believed.
        """
        sealed = _MAGIC + nonce + self._cipher.encrypt(nonce, kept.SerializeToString(), self._bound)
        if len(sealed) > MAX_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = scratch_beside(self._path, sealed)
        try:
            # The commit point: from here the new policies are what a restart finds.
            scratch.replace(self._path)
        except OSError:
            scratch.unlink()
            raise
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self) -> lkg_pb2.LastKnownGood | None:
        """What was written last; None if nothing was. Raises LastKnownGoodError when it is not ours or not whole."""
        try:
            with self._path.open("rb") as file:
                sealed = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused(f"cannot be read ({error.strerror})") from None
        nonce, text = sealed[len(_MAGIC) :][:NONCE_BYTES], sealed[len(_MAGIC) + NONCE_BYTES :]
        if not sealed.startswith(_MAGIC) or len(nonce) < NONCE_BYTES or len(sealed) > MAX_FILE:
            raise self._refused("is not such a file")
        try:
            return lkg_pb2.LastKnownGood.FromString(self._cipher.decrypt(nonce, text, self._bound))
        except (InvalidTag, DecodeError):
            raise self._refused("was changed, or belongs to another sidecar") from None

    def _refused(self, why: str) -> LastKnownGoodError:
        return LastKnownGoodError(
            f"{self._path} {why}: nothing of it is enforced; it is replaced once the control plane has answered"
        )
