"""What SQLite and PostgreSQL spell differently, for the statements of all adapters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
    from sqlalchemy.types import TypeEngine

T = TypeVar("T")


class Dialect:
    """Of one database; `Database` is one."""

    def __init__(self, name: str) -> None:
        self.dialect: Final = name
        """sqlite or postgresql: the word for the few other places where they differ."""

    def insert(self, table: sa.Table) -> SqliteInsert | PostgresqlInsert:
        """The dialect's own INSERT, the one that has `on_conflict_do_update` and
        `on_conflict_do_nothing`.
        """
        insert: Callable[[sa.Table], SqliteInsert | PostgresqlInsert]
        insert = import_module(f"sqlalchemy.dialects.{self.dialect}").insert
        return insert(table)

    def insert_many(self, table: sa.Table, *names: str) -> SqliteInsert | PostgresqlInsert:
        """The same for many rows of these columns, of all when none is named: run it with
        `many(rows)`.

        PostgreSQL gets them as one array a column, and so in one question.
        """
        insert = self.insert(table)
        if self.dialect == "sqlite":
            return insert
        names = names or tuple(table.c.keys())
        arrays = (sa.bindparam(name, type_=sa.ARRAY(table.c[name].type)) for name in names)
        rows = sa.func.unnest(*arrays).table_valued(*names).render_derived()
        return insert.from_select(names, sa.select(*rows.c))

    def many(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """The values of these rows (at least one, all with the same keys) for a statement of
        `insert_many`.
        """
        return (
            rows
            if self.dialect == "sqlite"
            else {name: [row[name] for row in rows] for name in rows[0]}
        )

    def among(self, column: sa.Column[T], values: str) -> sa.ColumnElement[bool]:
        """Whether the column is among the values of this parameter, a list.

        One statement, whatever its length.
        """
        if self.dialect == "sqlite":
            return column.in_(sa.bindparam(values, expanding=True))
        return column == sa.any_(sa.bindparam(values, type_=sa.ARRAY(column.type)))

    def given(self, **columns: TypeEngine[Any]) -> sa.FromClause:
        """Rows that the caller brings, as a table to join with: one statement, whatever their
        number.

        Run it with `giving(rows)`.
        """
        if self.dialect == "sqlite":
            each = sa.func.json_each(sa.bindparam("given")).table_valued("value")
            values = (
                sa.type_coerce(sa.func.json_extract(each.c.value, f"$[{place}]"), kind)
                for place, kind in enumerate(columns.values())
            )
            return sa.select(
                *(value.label(name) for name, value in zip(columns, values, strict=True))
            ).subquery("given")
        arrays = (sa.bindparam(name, type_=sa.ARRAY(kind)) for name, kind in columns.items())
        return sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()

    def giving(self, table: sa.FromClause, rows: Sequence[Sequence[Any]]) -> Mapping[str, Any]:
        """The values of these rows (at least one) for a statement with this table of `given`."""
        if self.dialect == "sqlite":
            return {"given": json.dumps(rows)}
        return dict(zip(table.c.keys(), map(list, zip(*rows, strict=True)), strict=True))
