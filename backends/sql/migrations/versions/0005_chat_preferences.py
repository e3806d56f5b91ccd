"""Preferences of chats: muted, pinned, archived, drafts.

What the columns mean stands beside the table in `backends/preferences`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.create_table(
        "chat_preferences",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("muted_until_ms", sa.BigInteger, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("archived", sa.BigInteger, nullable=False),
        sa.Column("draft", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("published", sa.BigInteger, nullable=False),
    )
    unpublished = sa.text("published < version")
    op.create_index(
        "chat_preferences_unpublished",
        "chat_preferences",
        ["user"],
        sqlite_where=unpublished,
        postgresql_where=unpublished,
    )
