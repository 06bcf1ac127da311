"""The dead-letter vault: chains that failed, with what their earlier stages gave, for a human to look at.

One SQLite file. What happened stands there as codes; what was said (the request, and the answers of earlier stages,
which hold restored values) is sealed with AES-256-GCM under a key in a file of its own, bound to the codes beside it.
Nothing is ever written in the clear: what cannot be sealed or stored is not kept, and the client is told so. Bounded in
number, bytes and age, oldest first to go.

Limits: whoever can read both files can read the letters; a copy of the file from before a deletion still has them.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from policies.mathprotocol.chain import Failed
from policies.mathprotocol.composite import Plan
from settings.key_files import KeyFileError, read_or_make_key

FILE: Final = "dead-letters.db"
KEY_FILE: Final = "dead-letters.key"
NONCE_BYTES: Final = 12

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS letters (
  n INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the order of keeping
  id TEXT NOT NULL UNIQUE,
  at REAL NOT NULL,                     -- seconds since 1970
  summary TEXT NOT NULL,                -- JSON: what happened, in codes
  sealed BLOB NOT NULL                  -- nonce, then JSON: what was said
);
PRAGMA user_version = 1;
"""
_BEYOND_BOUNDS: Final = """
DELETE FROM letters WHERE at < ? OR n IN (
  SELECT n FROM (
    SELECT n, row_number() OVER newest AS rank, sum(length(sealed)) OVER newest AS held
    FROM letters WINDOW newest AS (ORDER BY n DESC)
  ) WHERE rank > ? OR held > ?
)
"""
_BUSY: Final = 5.0
"""Seconds to wait for another process that writes."""


class VaultError(Exception):
    """The vault cannot be used, or a letter not be read. Says which file and what to do, never what is in it."""


@dataclass(frozen=True, slots=True)
class VaultLimits:
    """What is kept."""

    letters: int = 256
    size: int = 64 << 20
    """Bytes of sealed texts together."""
    age: float = 7 * 86_400.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One failed chain."""

    id: str
    at: float
    """Seconds since the epoch."""
    plan: Plan = field(repr=False)
    failed: Failed = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """What happened, without any text."""
        return {
            "id": self.id,
            "at": self.at,
            "plan": str(self.plan),
            "stage": str(self.failed.stage),
            "failure": self.failed.failure.value,
            "answered": [str(given.stage) for given in self.failed.given],
        }

    def said(self) -> dict[str, Any]:
        """All texts."""
        given = [{"stage": str(given.stage), "answer": given.answer} for given in self.failed.given]
        return {"request": f"{self.plan} | {self.plan.context}", "given": given}


class DeadLetterVault:
    """The last failed chains. Every method blocks on the disk: keep it off an event loop. From any thread."""

    def __init__(
        self,
        path: Path,
        key: bytes,
        limits: VaultLimits,
        *,
        now: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        """`key`: 32 secret bytes. `now`: seconds since 1970. Raises VaultError, also for a file that is no vault."""
        self._path = path
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=b"aegis dead letters").derive(key))
        self._limits = limits
        self._now = now
        self._random = random
        self._lock = threading.Lock()
        """Held while `_connection` is used."""
        with self._errors("opened"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
            self._prepare()
        self.expire()

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()

    def keep(self, letter: DeadLetter) -> bool:
        """Keep a letter; the oldest make room. Whether it is kept: one beyond the bounds by itself is not.

        When this returns, it survives a crash. Raises VaultError, and then nothing of it is on the disk.
        """
        summary = json.dumps(letter.summary(), sort_keys=True)
        nonce = self._random(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(letter.said()).encode(), summary.encode())
        if not self._limits.letters or len(sealed) > self._limits.size:
            return False
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO letters (id, at, summary, sealed) VALUES (?, ?, ?, ?)",
                (letter.id, letter.at, summary, sealed),
            )
            connection.execute(_BEYOND_BOUNDS, self._bounds())
        return True

    def expire(self) -> None:
        """Drop what is too old. Raises VaultError."""
        with self._writing() as connection:
            connection.execute(_BEYOND_BOUNDS, self._bounds())

    def get(self, letter: str) -> dict[str, Any] | None:
        """Everything of one letter, texts included; None: there is none. Raises VaultError."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT CAST(summary AS BLOB), CAST(sealed AS BLOB) FROM letters WHERE id = ? AND at >= ?",
                (letter, self._bounds()[0]),
            ).fetchone()
        if row is None:
            return None
        summary, sealed = row
        try:
            said = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], summary)
        except (InvalidTag, ValueError):
            raise VaultError(f"{self._path}: the letter was changed, or sealed under another key") from None
        return {**json.loads(summary), **json.loads(said)}

    def summaries(self) -> list[dict[str, Any]]:
        """All letters, newest first, without texts. Raises VaultError."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT summary FROM letters WHERE at >= ? ORDER BY n DESC", self._bounds()[:1]
            ).fetchall()
        try:
            return [json.loads(summary) for (summary,) in rows]
        except ValueError:
            raise VaultError(f"{self._path}: a letter was changed") from None

    # ---

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA secure_delete = ON")
        self._connection.execute("PRAGMA synchronous = FULL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise VaultError(f"{self._path}: made by another version of this program; move it away")

    def _bounds(self) -> tuple[float, int, int]:
        return self._now() - self._limits.age, self._limits.letters, self._limits.size

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:  # whatever failed, and be it the COMMIT on a full disk
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors("read"):
            yield self._connection

    @classmethod
    def open(cls, data: Path, limits: VaultLimits) -> "DeadLetterVault":
        """The vault in this directory, with its key; both are made if they are not there. Raises VaultError."""
        try:
            key = read_or_make_key(data / KEY_FILE)
        except KeyFileError as error:
            raise VaultError(str(error)) from None
        return cls(data / FILE, key, limits, now=lambda: time.time_ns() / 1e9, random=os.urandom)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise VaultError(f"{self._path} cannot be {what}: {error.strerror}") from None
        except sqlite3.Error as error:
            # Its message may show a value that is in the way; its name says enough.
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise VaultError(f"{self._path} cannot be {what}: {name}") from None
