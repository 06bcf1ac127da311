"""Revisions, documents and their contents."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "revisions",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False, comment="Unix time in milliseconds"),
        sa.Column("author", sa.String(2100), nullable=False, comment="SPIFFE id"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("restored", sa.Integer, comment="the revision that this one restored"),
        sa.PrimaryKeyConstraint("number", name="pk_revisions"),
        sa.ForeignKeyConstraint(["restored"], ["revisions.number"], name="fk_revisions_restored_revisions"),
    )
    op.create_table(
        "contents",
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False, comment="Resource.body, see policies/wire.py"),
        sa.PrimaryKeyConstraint("sha256", name="pk_contents"),
    )
    op.create_table(
        "documents",
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("ttl", sa.BigInteger, comment="milliseconds"),
        sa.PrimaryKeyConstraint("revision", "kind", "name", name="pk_documents"),
        sa.ForeignKeyConstraint(["revision"], ["revisions.number"], name="fk_documents_revision_revisions"),
        sa.ForeignKeyConstraint(["sha256"], ["contents.sha256"], name="fk_documents_sha256_contents"),
        comment="every document of every revision",
    )
    op.create_table(
        "changes",
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("action", sa.String(8), nullable=False, comment="created, changed or removed"),
        sa.PrimaryKeyConstraint("revision", "kind", "name", name="pk_changes"),
        sa.ForeignKeyConstraint(["revision"], ["revisions.number"], name="fk_changes_revision_revisions"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("changes", "documents", "contents", "revisions"):
        op.drop_table(table)
