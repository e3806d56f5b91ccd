"""Mentions: whom messages name, and which of a user's unread messages do.

What the columns mean stands beside the tables in `backends/chats/sql_tables.py`. No row is
written anew: messages that are there name no one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.add_column("messages", sa.Column("mentions", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "mentions",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
