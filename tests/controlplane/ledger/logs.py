"""Logs to test with: keys that sign fast, batches, and the oracle that re-checks everything."""

from collections.abc import Sequence

from controlplane.ledger.log import Log
from controlplane.ledger.signed import Signers
from ledger.checkpoint import parse_checkpoint
from ledger.cosignature import signer
from ledger.errors import MissingError
from ledger.fsck import Fault, check_tree
from ledger.keys import SignatureType, SigningKey
from ledger.note import parse_note
from ledger.reader import TreeReader
from ledger.rfc6962 import leaf_hash
from ledger.tiles import pack_entries
from tests.fakes.ledger_storage import FailingStorage, MemoryStorage

ORIGIN = "forest.example/node-a"
ED25519 = SigningKey(ORIGIN, SignatureType.ED25519, b"e" * 32)
MLDSA = SigningKey(ORIGIN, SignatureType.MLDSA44_COSIGNATURE, b"m" * 32)
FAST = Signers(signer(ED25519), signer(SigningKey(ORIGIN, SignatureType.ED25519_COSIGNATURE, b"f" * 32)))
"""With a timestamped Ed25519 key where a node has its ML-DSA key: the same shape at a twentieth of the cost."""
NOW = 1_800_000_000


def packed(entries: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Entries as `Log.append` takes them."""
    return [pack_entries([entry]) for entry in entries], [leaf_hash(entry) for entry in entries]


def numbered(first: int, count: int) -> list[bytes]:
    return [b"leaf %d" % n for n in range(first, first + count)]


async def load(storage: MemoryStorage | FailingStorage, now: int = NOW) -> Log:
    return await Log.load(storage, storage, FAST, lambda: now)


def new_storage() -> MemoryStorage:
    storage = MemoryStorage()
    storage.create(FAST.sign_empty(NOW).note)
    return storage


def check(storage: MemoryStorage, acknowledged: dict[int, bytes]) -> int:
    """The oracle: the published log is whole, and holds every acknowledged leaf where it was acknowledged."""
    head = parse_checkpoint(parse_note(storage.objects["checkpoint"]).text)
    FAST.verify(storage.objects["checkpoint"], "the checkpoint")

    def fetch(path: str) -> bytes:
        try:
            return storage.objects[path]
        except KeyError:
            raise MissingError(f"{path} is missing") from None

    assert [step for step in check_tree(head.size, head.root, fetch) if isinstance(step, Fault)] == []
    reader = TreeReader(head.size, head.root, fetch)
    stored = [entry for number in range(-(-head.size // 256)) for entry in reader.entries(number)]
    for index, entry in acknowledged.items():
        assert stored[index] == entry, f"acknowledged leaf {index} is lost"
    for size, root in storage.roots.items():
        assert size > head.size or reader.root_at(size) == root, f"the tree of {size} leaves was rewritten"
    return head.size
