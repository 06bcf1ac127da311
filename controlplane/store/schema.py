"""The tables. Their versions are in `migrations/`; a test holds both together."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

HEAD: Final = "0002"
"""The newest version in `migrations/`."""

REVISIONS: Final = Table(
    "revisions",
    METADATA,
    # The next number is the last one plus one, given by whoever inserts: of two that insert the same number, the
    # primary key refuses one. That is the whole concurrency control.
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, comment="Unix time in milliseconds"),
    Column("author", String(2100), nullable=False, comment="SPIFFE id"),
    Column("reason", Text, nullable=False),
    Column("restored", Integer, ForeignKey("revisions.number"), comment="the revision that this one restored"),
)

CONTENTS: Final = Table(
    "contents",
    METADATA,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("body", LargeBinary, nullable=False, comment="Resource.body, see policies/wire.py"),
)

DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    Column("revision", Integer, ForeignKey("revisions.number"), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("sha256", LargeBinary(32), ForeignKey("contents.sha256"), nullable=False),
    Column("ttl", BigInteger, comment="milliseconds"),
    comment="every document of every revision",
)

CHANGES: Final = Table(
    "changes",
    METADATA,
    Column("revision", Integer, ForeignKey("revisions.number"), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("action", String(8), nullable=False, comment="created, changed or removed"),
)

TUNNEL_KEYS: Final = Table(
    "tunnel_keys",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("epoch", BigInteger, nullable=False, comment="grows with every change"),
    Column("sealed", LargeBinary, nullable=False, comment="see controlplane/tunnels/vault.py"),
)

TUNNEL_NODES: Final = Table(
    "tunnel_nodes",
    METADATA,
    Column("spiffe_id", String(2100), primary_key=True),
    Column("node_id", String(253), primary_key=True),
    Column("epoch", BigInteger, nullable=False, comment="the latest that it has acknowledged"),
    Column("last_seen", BigInteger, nullable=False, comment="Unix time in milliseconds"),
)
