"""Edits, deletions, reactions and pins of messages.

What the columns mean stands beside the tables in `backends/chats/sql_tables.py`. No row is
written anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    for name in ("edited", "deleted"):
        op.add_column(
            "messages", sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        )
    op.add_column(
        "messages", sa.Column("hidden", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_table(
        "reactions",
        *_message(),
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("emoji", _KEY, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hidden_messages",
        *_message(),
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pins",
        *_message(),
        sa.Column("user", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )


def _message() -> tuple[sa.Column[str], sa.Column[int]]:
    return (
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
    )
