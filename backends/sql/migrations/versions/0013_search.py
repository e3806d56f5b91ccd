"""Search: the index of messages, and names as searches compare them.

What the columns mean stands beside the tables in `backends/search` and `backends/accounts`. The
index of messages is empty: `index` reads the log from its oldest record on, and `kn-chat reindex`
what history holds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schemas.folding import caseless

revision = "0013"
down_revision = "0012"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite indexes a message's tokens by the rowid, which must be the primary key, and that only if
# its type says INTEGER.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Adds only: processes of the version before go on meanwhile."""
    op.create_table(
        "search_messages",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column("chat", _KEY, nullable=False),
        sa.Column("sender", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("has_file", sa.Boolean, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tokens", sa.Text, nullable=False),
    )
    op.create_table(
        "search_hidden",
        sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.add_column("accounts", sa.Column("folded_name", sa.Text))
    _fold_names()
    if op.get_bind().dialect.name == "sqlite":
        _tokens_by_fts5()
        _names_by_fts5()
    else:
        op.execute("DROP INDEX IF EXISTS accounts_display_name_trigrams")
        # Without a list of new rows: each part of a search would read it.
        op.execute(
            "CREATE INDEX search_tokens ON search_messages USING gin "
            "(array_to_tsvector(string_to_array(tokens, ' '))) WITH (fastupdate = off)"
        )


def _fold_names() -> None:
    """Names that the database does not fold itself: the others are found as they are."""
    accounts = sa.table(
        "accounts",
        sa.column("user", sa.BigInteger),
        sa.column("display_name", sa.Text),
        sa.column("folded_name", sa.Text),
    )
    connection = op.get_bind()
    lower = sa.func.lower(accounts.c.display_name)
    found = connection.execute(sa.select(accounts.c.user, accounts.c.display_name, lower))
    values = [
        {"of": user, "name": caseless(name)}
        for user, name, small in found
        if caseless(name) != small
    ]
    if values:
        change = (
            sa.update(accounts)
            .where(accounts.c.user == sa.bindparam("of"))
            .values(folded_name=sa.bindparam("name"))
        )
        connection.execute(change, values)


def _tokens_by_fts5() -> None:
    """Which messages hold a token, and nothing else of it: no places, no sizes.

    The triggers keep it in step with `search_messages`.
    """
    op.execute(
        "CREATE VIRTUAL TABLE search_tokens USING fts5(tokens, content = 'search_messages', "
        "content_rowid = 'id', detail = none, columnsize = 0, tokenize = 'ascii')"
    )
    added = "INSERT INTO search_tokens (rowid, tokens) VALUES (new.id, new.tokens);"
    removed = (
        "INSERT INTO search_tokens (search_tokens, rowid, tokens) "
        "VALUES ('delete', old.id, old.tokens);"
    )
    op.execute(
        "CREATE TRIGGER search_messages_added AFTER INSERT ON search_messages "
        f"WHEN new.tokens <> '' BEGIN {added} END"
    )
    op.execute(
        "CREATE TRIGGER search_messages_gone AFTER DELETE ON search_messages "
        f"WHEN old.tokens <> '' BEGIN {removed} END"
    )
    op.execute(
        "CREATE TRIGGER search_messages_changed AFTER UPDATE OF tokens ON search_messages "
        f"WHEN old.tokens <> new.tokens BEGIN {removed} {added} END"
    )


def _names_by_fts5() -> None:
    """Names by their trigrams, as before, but folded."""
    for trigger in ("accounts_named", "accounts_gone", "accounts_renamed"):
        op.execute(f"DROP TRIGGER {trigger}")
    op.execute("DROP TABLE account_names")
    op.execute(
        "CREATE VIRTUAL TABLE account_names USING fts5("
        "user_name, folded_name, content = 'accounts', content_rowid = 'user', tokenize = "
        "'trigram')"
    )
    added = (
        "INSERT INTO account_names (rowid, user_name, folded_name) VALUES (new.user, "
        "new.user_name, coalesce(new.folded_name, new.display_name));"
    )
    removed = (
        "INSERT INTO account_names (account_names, rowid, user_name, folded_name) VALUES ("
        "'delete', old.user, old.user_name, coalesce(old.folded_name, old.display_name));"
    )
    op.execute(
        "INSERT INTO account_names (rowid, user_name, folded_name) "
        "SELECT user, user_name, coalesce(folded_name, display_name) FROM accounts"
    )
    op.execute(f"CREATE TRIGGER accounts_named AFTER INSERT ON accounts BEGIN {added} END")
    op.execute(f"CREATE TRIGGER accounts_gone AFTER DELETE ON accounts BEGIN {removed} END")
    op.execute(
        "CREATE TRIGGER accounts_renamed AFTER UPDATE OF user_name, display_name, folded_name "
        f"ON accounts BEGIN {removed} {added} END"
    )
