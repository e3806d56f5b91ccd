"""The tables of groups in SQL: groups, their members, and events that the log does not have yet.

A change of them is a migration as well: `backends/sql/migrations`.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from backends.sql.database import METADATA

GROUPS: Final = sa.Table(
    "groups",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("avatar", sa.Text, nullable=False),
    sa.Column("history", sa.Text, nullable=False),
    sa.Column("members", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    # The id of the newest event.
    sa.Column("changed", sa.BigInteger, nullable=False),
    # Of the event that deleted it; 0: none.
    sa.Column("deleted", sa.BigInteger, nullable=False),
    # Whose key made it, and the hash of what was asked.
    sa.Column("creator", sa.BigInteger, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("creator", "key", name="groups_key"),
)

GROUP_MEMBERS: Final = sa.Table(
    "group_members",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("joined", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    # Of the event that ended it; 0: a member.
    sa.Column("ended", sa.BigInteger, nullable=False),
    sa.Index("group_members_user", "user", "ended"),
)

# Hardly ever more than a few rows.
PENDING_COMMANDS: Final = sa.Table(
    "pending_commands",
    METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("command", sa.LargeBinary, nullable=False),
)
