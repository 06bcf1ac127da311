"""Storage of a log in memory, and one that fails at chosen operations in every way that a network store can."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, auto

from controlplane.ledger.errors import ConflictError, StorageError
from controlplane.ledger.ports import CHECKPOINT
from ledger.checkpoint import parse_checkpoint
from ledger.note import parse_note


class MemoryStorage:
    """What outlives a crash. Remembers every checkpoint that anybody ever could see."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock: bytes | None = None
        self.roots: dict[int, bytes] = {}
        """Size -> root of every checkpoint that was ever in the lock or published."""
        self.unsettled: set[str] = set()
        """Keys of objects that a power cut may take away or cut short."""

    def witness(self, note: bytes) -> None:
        checkpoint = parse_checkpoint(parse_note(note).text)
        known = self.roots.setdefault(checkpoint.size, checkpoint.root)
        assert known == checkpoint.root, f"two trees of {checkpoint.size} leaves were signed"

    def create(self, note: bytes) -> None:
        self.witness(note)
        self.lock = self.objects[CHECKPOINT] = note

    async def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def cut_power(self, draw: Iterator[int]) -> None:
        """Of everything that is not durable some is whole, some gone, some half there, some full of zeros."""
        for key in sorted(self.unsettled & set(self.objects)):
            data = self.objects[key]
            match next(draw) % 4:
                case 0:
                    del self.objects[key]
                case 1:
                    self.objects[key] = data[: len(data) // 2]
                case 2:
                    self.objects[key] = bytes(len(data))
                case _:
                    pass
        self.unsettled.clear()

    async def stage(self, key: str, data: bytes) -> None:
        await self.put({key: data})
        self.unsettled.discard(key)

    async def put(self, objects: Mapping[str, bytes]) -> None:
        for key, data in objects.items():
            if key not in self.objects:
                self.unsettled.add(key)
            if self.objects.setdefault(key, data) != data:
                raise ConflictError(f"{key} holds something else")

    async def repair(self, objects: Mapping[str, bytes]) -> None:
        self.unsettled |= {key for key, data in objects.items() if self.objects.get(key) != data}
        self.objects.update(objects)

    async def settle(self) -> None:
        self.unsettled.clear()

    async def replace(self, key: str, data: bytes) -> None:
        self.witness(data)
        self.objects[key] = data

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)

    async def keys(self, prefix: str) -> list[str]:
        return [key for key in self.objects if key.startswith(prefix)]

    async def fetch(self) -> bytes | None:
        return self.lock

    async def swap(self, old: bytes, new: bytes) -> None:
        if self.lock != old:
            raise ConflictError("the lock was moved by somebody else")
        self.witness(new)
        self.lock = new


class Failure(Enum):
    """What becomes of an operation."""

    REFUSED = auto()
    """An error, and nothing happened."""
    APPLIED = auto()
    """An error, and it happened all the same."""
    PARTIAL = auto()
    """An error, and half of a `put` happened; another operation happened not at all."""
    DELAYED = auto()
    """An error, and it happens later: when `land` is called."""
    CRASH_BEFORE = auto()
    """The process dies, and nothing happened."""
    CRASH_AFTER = auto()
    """The process dies after it happened."""
    CRASH_PARTIAL = auto()
    """The process dies with half of it done."""


CRASHES = (Failure.CRASH_BEFORE, Failure.CRASH_AFTER, Failure.CRASH_PARTIAL)


class Crash(BaseException):
    """The process is dead. Not an Exception: no error handling may outlive it."""


class FailingStorage:
    """A process' view of `MemoryStorage`: counts operations and fails those that `plan` names."""

    def __init__(self, inner: MemoryStorage, plan: Mapping[int, Failure] | None = None) -> None:
        self.inner = inner
        self.plan = dict(plan or {})
        self.log: list[str] = []
        """Names of the operations so far, e.g. `put tile`."""
        self._late: list[Callable[[], None]] = []
        self._dead = False

    def land(self) -> None:
        """Let every delayed operation arrive."""
        for apply in self._late:
            apply()
        self._late.clear()

    async def get(self, key: str) -> bytes | None:
        return await self._do(f"get {_kind(key)}", self.inner.get(key))

    async def stage(self, key: str, data: bytes) -> None:
        await self._do("stage", self.inner.stage(key, data), lambda: self.inner.stage(key, data))

    async def repair(self, objects: Mapping[str, bytes]) -> None:
        half = dict(itertools.islice(objects.items(), len(objects) // 2))
        whole = self.inner.repair(objects)
        await self._do("repair", whole, lambda: self.inner.repair(objects), lambda: self.inner.repair(half))

    async def settle(self) -> None:
        await self._do("settle", self.inner.settle(), self.inner.settle)

    async def put(self, objects: Mapping[str, bytes]) -> None:
        half = dict(itertools.islice(objects.items(), len(objects) // 2))
        name = f"put {_kind(next(iter(objects), ''))}"
        await self._do(name, self.inner.put(objects), lambda: self.inner.put(objects), lambda: self.inner.put(half))

    async def replace(self, key: str, data: bytes) -> None:
        await self._do(f"replace {key}", self.inner.replace(key, data), lambda: self.inner.replace(key, data))

    async def delete(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        await self._do("delete", self.inner.delete(listed), None, lambda: self.inner.delete(listed[: len(listed) // 2]))

    async def keys(self, prefix: str) -> list[str]:
        return await self._do("keys", self.inner.keys(prefix))

    async def fetch(self) -> bytes | None:
        return await self._do("fetch lock", self.inner.fetch())

    async def swap(self, old: bytes, new: bytes) -> None:
        await self._do("swap lock", self.inner.swap(old, new), lambda: self.inner.swap(old, new))

    async def _do(self, name, whole, again=None, half=None):  # type: ignore[no-untyped-def] # any coroutine will do
        if self._dead:
            whole.close()
            raise Crash
        failure = self.plan.pop(len(self.log), None)
        self.log.append(name)
        match failure:
            case None:
                return await whole
            case Failure.APPLIED | Failure.CRASH_AFTER:
                await whole
            case Failure.PARTIAL | Failure.CRASH_PARTIAL if half is not None:
                whole.close()
                await half()
            case Failure.DELAYED if again is not None:
                whole.close()
                self._late.append(lambda: _step(again()))
            case _:
                whole.close()
        if failure in CRASHES:
            self._dead = True
            raise Crash
        raise StorageError(f"{name}: {failure.name}")


def _kind(key: str) -> str:
    return "staging" if key.startswith(".state/staging/") else "tile" if key.startswith("tile/") else key


def _step(coroutine) -> None:  # type: ignore[no-untyped-def] # of MemoryStorage, which never waits
    try:
        coroutine.send(None)
    except StopIteration:
        return
    except ConflictError:
        return  # a late swap that lost, a late object of a tree that never was: nobody hears of it
