"""Session epochs and endings: all log-ins of an account can end in one step, and gateways hear of
it whatever is unavailable.

What the columns mean stands beside the tables in `backends/accounts`. Log-ins go on; display names
get their composed form (NFC).
"""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_MAX_BATCH = 1_000


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.add_column(
        "accounts", sa.Column("session_epoch", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column(
        "devices", sa.Column("rotated_ms", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("devices", sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE devices SET rotated_ms = seen_ms")
    op.create_table(
        "endings",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("device", _KEY, primary_key=True),
        sa.Column("before_ms", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("kept", sa.Text, nullable=False),
    )
    _compose_names()


def _compose_names() -> None:
    connection = op.get_bind()
    accounts = sa.table(
        "accounts", sa.column("user", sa.BigInteger), sa.column("display_name", sa.Text)
    )
    page = (
        sa.select(accounts.c.user, accounts.c.display_name)
        .order_by(accounts.c.user)
        .limit(_MAX_BATCH)
    )
    after = -1
    while rows := connection.execute(page.where(accounts.c.user > after)).all():
        for user, name in rows:
            if (composed := unicodedata.normalize("NFC", name)) != name:
                connection.execute(
                    sa.update(accounts).where(accounts.c.user == user).values(display_name=composed)
                )
        after = rows[-1].user
