"""Configuration that changes while running, its history, and who may change it.

What the columns mean stands beside the tables in `backends/configuration/sql.py`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    for name, is_history in (("configuration", False), ("configuration_history", True)):
        op.create_table(
            name,
            sa.Column("section", sa.Text, primary_key=True),
            sa.Column(
                "version",
                sa.BigInteger,
                primary_key=is_history,
                autoincrement=False,
                nullable=False,
            ),
            sa.Column("content", sa.Text, nullable=False),
            sa.Column("author", sa.BigInteger, nullable=False),
            sa.Column("changed_ms", sa.BigInteger, nullable=False),
        )
    op.create_table(
        "administrators",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("granted_ms", sa.BigInteger, nullable=False),
    )
