"""Invariants: every published format is read to a value that is written as the same bytes, or refused (`LedgerError`).

python -m tests.fuzz.fuzz_ledger -max_total_time=60
"""

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["ledger"]):
    from ledger.checkpoint import parse_checkpoint
    from ledger.commitment import parse_opening
    from ledger.errors import LedgerError
    from ledger.keys import parse_signing_key, parse_vkey
    from ledger.leaf import parse_leaf
    from ledger.note import parse_note
    from ledger.policy import parse_policy
    from ledger.proof import parse_proof
    from ledger.staging import pack_staging, unpack_staging
    from ledger.tiles import pack_entries, parse_path, unpack_entries


def bundle(data: bytes) -> bytes:
    return data[:1] + pack_entries(unpack_entries(data[1:], data[0] if data else 0))


def policy(data: bytes) -> bytes:
    parse_policy(data)
    return data


FORMATS: list[Callable[[bytes], bytes]] = [
    lambda data: parse_note(data).encode(),
    lambda data: parse_checkpoint(data.decode()).text.encode(),
    lambda data: parse_proof(data).encode(),
    policy,
    lambda data: str(parse_vkey(data.decode())).encode(),
    lambda data: parse_signing_key(data.decode()).encode().encode(),
    lambda data: parse_path(data.decode()).path.encode(),
    bundle,
    lambda data: pack_staging(*unpack_staging(data)),
    lambda data: parse_leaf(data).pack(),
    lambda data: parse_opening(data).encode(),
]


def test_one_input(data: bytes) -> None:
    choice, body = (data[0] if data else 0) % len(FORMATS), data[1:]
    try:
        written = FORMATS[choice](body)
    except (LedgerError, UnicodeDecodeError):
        return
    assert written == body


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
