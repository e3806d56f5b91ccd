"""Files: what is known of them, which messages let whom read them, and the file of a message.

What the columns mean stands beside the tables in `backends/files/sql.py`. Messages that are there
have no file.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.create_table(
        "files",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("declared", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("idle_since_ms", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("safe", sa.Boolean, nullable=False),
        sa.Column("width", sa.BigInteger, nullable=False),
        sa.Column("height", sa.BigInteger, nullable=False),
        sa.Column("claimed_ms", sa.BigInteger, nullable=False),
        sa.Column("uploaded", sa.Boolean, nullable=False),
    )
    op.create_index("files_owner", "files", ["owner", "created_ms", "id"])
    for name, column, where in (
        ("files_idle", "idle_since_ms", "idle_since_ms > 0 AND state != 'removed'"),
        ("files_uploaded", "created_ms", "uploaded"),
        ("files_held", "created_ms", "state = 'held'"),
    ):
        op.create_index(
            name, "files", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    op.create_table(
        "file_grants",
        sa.Column("file", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("file_grants_message", "file_grants", ["chat", "message"])
    op.add_column("messages", sa.Column("file", sa.Text, nullable=False, server_default=""))
