"""Key files of one workload: made once, private from the first byte on, never written over."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from settings import private_file
from transport.ech.config import encode_config_list, generate_key
from transport.ech.pem import encode_pem
from transport.keyring import NoiseStatic
from transport.peers import fingerprint

NOISE_KEY, ECH_KEY = "noise.key", "ech.pem"


class KeyExistsError(Exception):
    """There is a key in that place. Says which."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was made, as far as it is public."""

    noise_key: Path
    static: bytes
    ech_key: Path | None
    config_list: bytes

    def public(self) -> dict[str, str]:
        """Names and values to be shown."""
        shown = {
            "noise_key": str(self.noise_key),
            "static_key": base64.b64encode(self.static).decode(),
            "fingerprint": fingerprint(self.static),
        }
        if self.ech_key is not None:
            shown |= {"ech_key": str(self.ech_key), "ech_configs": base64.b64encode(self.config_list).decode()}
        return shown


def write_keys(directory: Path, public_name: str | None, max_name_length: int) -> Made:
    """Make a Noise static, and an ECH key if there is a public name. Raises KeyExistsError, EchConfigError, OSError."""
    # Everything that can be refused is refused before the first file is there.
    key = (
        generate_key(public_name, os.urandom, maximum_name_length=max_name_length) if public_name is not None else None
    )
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in (NOISE_KEY, *((ECH_KEY,) if key is not None else ())):
        if (directory / name).exists():
            raise KeyExistsError(f"{directory / name} is there already; a key is never written over")
    static = NoiseStatic.of(os.urandom(32))
    _write(directory / NOISE_KEY, static.private)
    if key is None:
        return Made(directory / NOISE_KEY, static.public, None, b"")
    _write(directory / ECH_KEY, encode_pem(key))
    return Made(directory / NOISE_KEY, static.public, directory / ECH_KEY, encode_config_list([key.config]))


def _write(path: Path, content: bytes) -> None:
    try:
        private_file.create(path, content)
    except FileExistsError:
        raise KeyExistsError(f"{path} is there already; a key is never written over") from None
