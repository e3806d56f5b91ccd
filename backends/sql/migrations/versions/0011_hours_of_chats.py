"""Hours of chats: the newest chats of a user are found, however many there are.

What the column means stands beside the table in `backends/chats/sql_tables.py`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile, and the database keeps the column
    for them too. PostgreSQL writes the table anew, and they wait for that.
    """
    # SQLite adds no stored column to a table, PostgreSQL has no index on others.
    stored = op.get_bind().dialect.name == "postgresql"
    hour = sa.Computed("newest / 4194304 / 3600000", persisted=stored)
    op.add_column("chat_states", sa.Column("hour", sa.BigInteger, hour))
    op.create_index("chat_states_hour", "chat_states", ["user", "hour"])
