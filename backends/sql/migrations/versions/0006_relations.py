"""Relations between users: contacts, blocks, privacy; and which chats a user has answered.

What the columns mean stands beside the tables in `backends/relations` and `backends/chats`. Chats
that were there before count as answered.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.create_table(
        "contacts",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("other", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("published", sa.BigInteger, nullable=False),
        sa.Column("met", sa.Boolean, nullable=False),
    )
    unpublished = sa.text("published < version")
    op.create_index(
        "contacts_unpublished",
        "contacts",
        ["user"],
        sqlite_where=unpublished,
        postgresql_where=unpublished,
    )
    op.create_table(
        "blocks",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("other", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.create_table(
        "privacy",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("who_may_write", sa.Text, nullable=False),
        sa.Column("receipts", sa.Boolean, nullable=False),
        sa.Column("last_seen", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("privacy_changed", "privacy", ["changed_ms"])
    op.add_column(
        "chat_states", sa.Column("sent", sa.BigInteger, nullable=False, server_default="1")
    )
