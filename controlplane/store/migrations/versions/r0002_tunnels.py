"""Keys of tunnels, and which sidecars have acknowledged them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "tunnel_keys",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False, comment="always 1"),
        sa.Column("epoch", sa.BigInteger, nullable=False, comment="grows with every change"),
        sa.Column("sealed", sa.LargeBinary, nullable=False, comment="see controlplane/tunnels/vault.py"),
        sa.PrimaryKeyConstraint("id", name="pk_tunnel_keys"),
    )
    op.create_table(
        "tunnel_nodes",
        sa.Column("spiffe_id", sa.String(2100), nullable=False),
        sa.Column("node_id", sa.String(253), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False, comment="the latest that it has acknowledged"),
        sa.Column("last_seen", sa.BigInteger, nullable=False, comment="Unix time in milliseconds"),
        sa.PrimaryKeyConstraint("spiffe_id", "node_id", name="pk_tunnel_nodes"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("tunnel_nodes", "tunnel_keys"):
        op.drop_table(table)
