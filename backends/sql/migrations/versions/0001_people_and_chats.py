"""The first tables: accounts and devices, generators and owners, messages and chat states.

What the columns mean stands beside the tables in `backends/accounts` and `backends/chats`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# SQLite indexes an account's names by the rowid, which must be the primary key, and that only if
# its type says INTEGER.
_USER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# What is a key or put in order is compared by its bytes on PostgreSQL too, whatever the database's
# locale.
_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes everything; there is nothing before it.

    PostgreSQL's index for the search of names is made by `search.py`, if it can be.
    """
    _accounts()
    _gateways()
    _chats()
    if op.get_bind().dialect.name == "sqlite":
        _search_by_fts5()


def _accounts() -> None:
    accounts = op.create_table(
        "accounts",
        sa.Column("user", _USER, primary_key=True, autoincrement=False),
        sa.Column("user_name", _KEY, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("phone", sa.Text),
        sa.Column("email", sa.Text),
        sa.Column("settings", sa.JSON),
        sa.Column("password_hash", sa.Text, nullable=False),
    )
    op.create_index(
        "accounts_user_name", "accounts", [sa.func.lower(accounts.c.user_name)], unique=True
    )
    op.create_table(
        "devices",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("device", _KEY, primary_key=True),
        sa.Column("device_name", sa.Text, nullable=False),
        sa.Column("family", _KEY, nullable=False, unique=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )


def _gateways() -> None:
    op.create_table(
        "generators",
        sa.Column("generator", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False, index=True),
    )
    # All 4,096 numbers (12 bits of an id), each lent out never yet.
    op.execute(
        "INSERT INTO generators (generator, holder, until_ms) "
        "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < "
        "4095) SELECT n, '', 0 FROM numbers"
    )
    op.create_table(
        "owners",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
    )


def _chats() -> None:
    op.create_table(
        "messages",
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sender", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("reply_to", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chat_states",
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("chat", _KEY, primary_key=True),
        sa.Column("newest", sa.BigInteger, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("read", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _search_by_fts5() -> None:
    """Names by their trigrams: any case, substrings of 3 characters or more.

    The triggers keep it in step with `accounts`.
    """
    op.execute(
        "CREATE VIRTUAL TABLE account_names USING fts5("
        "user_name, display_name, content = 'accounts', content_rowid = 'user', tokenize = "
        "'trigram')"
    )
    added = (
        "INSERT INTO account_names (rowid, user_name, display_name) VALUES (new.user, "
        "new.user_name, new.display_name);"
    )
    removed = (
        "INSERT INTO account_names (account_names, rowid, user_name, display_name) "
        "VALUES ('delete', old.user, old.user_name, old.display_name);"
    )
    op.execute(f"CREATE TRIGGER accounts_named AFTER INSERT ON accounts BEGIN {added} END")
    op.execute(f"CREATE TRIGGER accounts_gone AFTER DELETE ON accounts BEGIN {removed} END")
    op.execute(
        "CREATE TRIGGER accounts_renamed AFTER UPDATE OF user_name, display_name ON accounts "
        f"BEGIN {removed} {added} END"
    )
