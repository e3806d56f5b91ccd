"""How `Database` reaches PostgreSQL (or YugabyteDB): its URL, its connections, and what its errors
ask for.

It knows no table. The driver, pg8000, asks the server three times for one statement (parse,
describe, execute) and three times for a COMMIT. Connections here prepare a statement when they
first meet it and ask once from then on. Passwords and what people wrote are in no error.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pg8000.dbapi as pg8000
import scramp
import sqlalchemy as sa
from pg8000.converters import make_params

from schemas.errors import ChatError, Malformed, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECT_TIMEOUT_S: Final = 2.0
"""Of each step of a new connection: a healthy server takes about 10 ms for all of them."""
COOLDOWN_S: Final = 1.0
"""After a connection could not be made no other is tried for so long: callers get the error at
once.
"""
MAX_PREPARED: Final = 100
"""Statements that one connection keeps prepared; ours are about 30.

What comes after them is parsed each time.
"""

# A peer that has vanished is noticed within a minute: 30 s of silence, then three questions.
_KEEPALIVE: Final = {"TCP_NODELAY": 1, "TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# The wrong password; no way in for this user (its name, or pg_hba.conf); no such database; no right
# to connect to it.
_WRONG_SETTING: Final = {
    "28P01": "KNCHAT_DATABASE_PASSWORD",
    "28000": "KNCHAT_DATABASE",
    "3D000": "KNCHAT_DATABASE",
    "42501": "KNCHAT_DATABASE",
}
# Serialization failure and deadlock: the transaction was rolled back so that another could go on.
# YugabyteDB says it often.
_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
# The connection will not do again what it did: its prepared statement is gone, or of a table that
# has changed since, or its server has become a read-only copy.
_WORN_OUT: Final = frozenset({"26000", "0A000", "25006"})


class Server:
    """One database of one server, as one user."""

    def __init__(self, url: str, *, password: str = "", ca: str = "") -> None:
        """Raises Malformed for a URL that is none.

        `ca` is a file of authorities: then TLS is spoken, and the server's name is checked.
        """
        try:
            parsed = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):
            parsed = sa.make_url("none://")
        plain = (
            parsed.drivername == "postgresql"
            and not (parsed.password or parsed.query)
            and 0 < (parsed.port or 5432) <= 65_535
        )
        if not (plain and parsed.username and parsed.host and parsed.database):
            raise Malformed(
                "KNCHAT_DATABASE is like postgresql://user@host:5432/name, without the password",
                field="KNCHAT_DATABASE",
            )
        self.name: Final = parsed.database
        self._user, self._host, self._port = parsed.username, parsed.host, parsed.port or 5432
        self._password = password
        self._ca = ca
        self._turn = threading.Lock()
        self._failed: Exception | None = None
        self._left_alone_until = 0.0

    def connect(self, timeout_s: float) -> Connection:
        """A new connection with this timeout.

        Raises Malformed when a setting is wrong, Unavailable when the server is unavailable. One
        thread tries at a time: while the server is unavailable the others learn it from that one
        try, and for COOLDOWN_S none tries again.
        """
        with self._turn:
            if self._failed is None or time.monotonic() >= self._left_alone_until:
                try:
                    connection = self._connected(timeout_s)
                except (
                    OSError,
                    pg8000.Error,
                    scramp.ScramException,
                    KeyError,
                ) as error:
                    # KeyError: no PostgreSQL speaks there.
                    self._failed, self._left_alone_until = error, time.monotonic() + COOLDOWN_S
                else:
                    self._failed = None
                    return connection
            raise self._verdict(self._failed) from self._failed

    def _connected(self, timeout_s: float) -> Connection:
        tls = self._tls()
        sock = socket.create_connection((self._host, self._port), CONNECT_TIMEOUT_S)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            connection = Connection(
                self._user,
                host=self._host,
                database=self.name,
                password=self._password,
                sock=sock,
                ssl_context=tls,
                application_name="kn-chat",
                startup_params=_startup_params(timeout_s),
            )
        except BaseException:
            sock.close()
            raise
        connection.set_read_timeout(timeout_s)
        return connection

    def _tls(self) -> ssl.SSLContext | bool:
        try:
            return ssl.create_default_context(cafile=self._ca) if self._ca else False
        except OSError as error:
            raise Malformed(
                f"KNCHAT_DATABASE_CA: {self._ca} holds no authorities", field="KNCHAT_DATABASE_CA"
            ) from error

    def _verdict(self, error: Exception) -> ChatError:
        at = f"the database at {self._host}:{self._port}"
        cause = error if isinstance(error, ssl.SSLError) else error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Malformed(
                f"{at} is not trusted: {cause.verify_message}", field="KNCHAT_DATABASE_CA"
            )
        if str(error) == "Server refuses SSL":
            return Malformed(
                f"{at} speaks no TLS, which KNCHAT_DATABASE_CA asks for", field="KNCHAT_DATABASE_CA"
            )
        code, text = _said(error)
        if code in _WRONG_SETTING:
            return Malformed(f"{at} refuses: {text}", field=_WRONG_SETTING[code])
        return Unavailable(f"{at} does not answer: {text or cause or error}")


class Connection(pg8000.Connection):  # type: ignore[misc] # pg8000 has no types
    """A connection that prepares each statement once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._prepared: dict[str, Any] = {}
        super().__init__(*arguments, **options)

    def set_read_timeout(self, timeout_s: float) -> None:
        """Sets how long the server may send nothing, from now on."""
        self._usock.settimeout(timeout_s)

    def execute_unnamed(
        self, statement: str, vals: Sequence[Any] = (), oids: Sequence[int] = (), stream: Any = None
    ) -> Any:
        """What a cursor calls for each statement with values."""
        prepared = self._prepared.get(statement)
        if prepared is None:
            if len(self._prepared) >= MAX_PREPARED or oids or stream is not None:
                return super().execute_unnamed(statement, vals=vals, oids=oids, stream=stream)
            prepared = self._prepared[statement] = self.prepare_statement(statement, ())
        name, columns, read = prepared
        return self.execute_named(name, make_params(self.py_types, vals), columns, read, statement)

    def commit(self) -> None:
        """Asks once, and only if there is a transaction."""
        if self._in_transaction:
            self.execute_simple("commit")

    def rollback(self) -> None:
        """As `commit`."""
        if self._in_transaction:
            self.execute_simple("rollback")

    def close(self) -> None:
        """A connection that is broken is closed like any other; else the error that broke it would
        be lost.
        """
        with suppress(pg8000.InterfaceError, OSError):
            super().close()

    def handle_messages(self, context: Any) -> None:
        """A connection that breaks or stays silent becomes an error of the driver: SQLAlchemy then
        drops it, for its answers may come yet.
        """
        try:
            super().handle_messages(context)
        except OSError as error:
            raise pg8000.InterfaceError("network error") from error

    # The driver's name.
    def handle_ERROR_RESPONSE(self, data: bytes, context: Any) -> None:  # noqa: N802
        """Errors go into logs: of what the server says only code and message are kept, for details
        quote rows.
        """
        super().handle_ERROR_RESPONSE(data, context)
        said = {field: context.error.args[0].get(field, "") for field in "CM"}
        context.error = (
            pg8000.IntegrityError if said["C"].startswith("23") else pg8000.DatabaseError
        )(said)


def engine_of(server: Server, *, connections: int, timeout_s: float) -> sa.Engine:
    """An engine whose connections are kept until they break."""
    engine = sa.create_engine(
        # What is in it is for messages: `server` connects.
        sa.URL.create("postgresql+pg8000", database=server.name),
        creator=lambda: server.connect(timeout_s),
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,
        hide_parameters=True,
    )
    sa.event.listen(engine, "begin", _begin)
    sa.event.listen(engine, "handle_error", _drop_worn_out)
    return engine


def may_run_again(error: sa.exc.DBAPIError, *, worked: bool, again: int) -> bool:
    """Whether a transaction that failed so for the `again`th time (from 0) has certainly left
    nothing, and may succeed now.

    `worked`: all its statements had been answered, so that it failed in COMMIT: on a broken
    connection its outcome is unknown.
    """
    if _said(error.orig)[0] in _ROLLED_BACK:
        return again < 5
    cause = error.orig and error.orig.__cause__
    # Not what the kernel says of a peer that has vanished.
    waited = isinstance(cause, TimeoutError) and cause.errno is None
    return error.connection_invalidated and not worked and not waited and again == 0


def _startup_params(timeout_s: float) -> dict[str, str]:
    ms = round(timeout_s * 1_000)
    return {
        "client_encoding": "UTF8",
        # The server gives up before we do: then the connection is still good, and nothing runs on
        # unseen.
        "statement_timeout": str(ms * 4 // 5),
        # What a process that has vanished had locked is free again.
        "idle_in_transaction_session_timeout": str(ms * 2),
    }


def _begin(connection: sa.Connection) -> None:
    # What only reads needs no transaction: with READ COMMITTED each statement sees what is
    # committed then, inside one too.
    line: Any = connection.connection.dbapi_connection
    line.autocommit = not connection.get_execution_options().get("writing", False)


def _drop_worn_out(context: sa.engine.ExceptionContext) -> None:
    if _said(context.original_exception)[0] in _WORN_OUT:
        context.is_disconnect = True


def _said(error: BaseException | None) -> tuple[str, str]:
    """Code and message of a server's answer; empty when it is none."""
    said = error.args[0] if isinstance(error, pg8000.DatabaseError) and error.args else None
    return (said.get("C", ""), said.get("M", "")) if isinstance(said, dict) else ("", "")
