"""Groups: who is in which, the events that the log does not have yet, and events among messages.

What the columns mean stands beside the tables in `backends/groups` and `backends/chats`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.create_table(
        "groups",
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("avatar", sa.Text, nullable=False),
        sa.Column("history", sa.Text, nullable=False),
        sa.Column("members", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.BigInteger, nullable=False),
        sa.Column("creator", sa.BigInteger, nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("creator", "key", name="groups_key"),
    )
    op.create_table(
        "group_members",
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("joined", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger, nullable=False),
    )
    op.create_index("group_members_user", "group_members", ["user", "ended"])
    op.create_table(
        "pending_commands",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("command", sa.LargeBinary, nullable=False),
    )
    op.add_column("messages", sa.Column("event", sa.Text, nullable=False, server_default=""))
