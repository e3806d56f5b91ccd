"""Previews of images, and avatars of users.

Files that are there have no previews; what the columns mean stands beside the tables.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.add_column("files", sa.Column("previews", sa.Text, nullable=False, server_default="none"))
    due = sa.text("previews = 'due' AND state = 'complete'")
    op.create_index("files_due", "files", ["created_ms"], sqlite_where=due, postgresql_where=due)
    op.add_column("accounts", sa.Column("avatar", sa.Text, nullable=False, server_default=""))
