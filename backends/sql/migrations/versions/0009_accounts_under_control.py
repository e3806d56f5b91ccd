"""Accounts under control: suspensions, what other devices are told of a log-in, the audit log of
accounts.

What the columns mean stands beside the tables in `backends/accounts` and `backends/account_events`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile, and let suspended users in until
    they have ended.
    """
    op.add_column(
        "accounts", sa.Column("suspended_ms", sa.BigInteger, nullable=False, server_default="0")
    )
    suspended = sa.text("suspended_ms > 0")
    op.create_index(
        "accounts_suspended",
        "accounts",
        ["user"],
        sqlite_where=suspended,
        postgresql_where=suspended,
    )
    op.add_column(
        "endings", sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_table(
        "log_in_notices",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("op", sa.Text, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("device_name", sa.Text, nullable=False),
    )
    op.create_table(
        "account_events",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("user", sa.BigInteger, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("times", sa.BigInteger, nullable=False),
    )
    op.create_index("account_events_at", "account_events", ["at_ms"])
    op.create_index("account_events_user", "account_events", ["user", "at_ms"])
