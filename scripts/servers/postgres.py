"""PostgreSQL: the role `knchat`, no superuser, owns the database `knchat` and may make others for
tests; every user gives a password.

The server refuses to run as root: then it runs as `postgres` or `nobody`, and its data lies where
that user can reach it.
"""

from __future__ import annotations

import os
import pwd
import signal
import ssl
import subprocess
import tempfile
from pathlib import Path

import pg8000.exceptions
import pg8000.native

from servers.packages import POSTGRES as PROGRAMS
from servers.packages import SETPRIV, say
from servers.place import HOST, USER, Failed, Place
from servers.server import NotReady, Server

_SUPERUSER = "postgres"

_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"
_ACCESS_SECURE = "hostssl all all 127.0.0.1/32 scram-sha-256\n"


def _prepare(place: Place) -> list[str]:
    """Makes the data folder the first time, writes what may have changed, and says what to run."""
    programs, owner = PROGRAMS.path(), _owner()
    data = _data(place, owner)
    if not (data / "PG_VERSION").exists():
        say("postgres: making its data folder")
        _initialise(programs, data, place, owner)
    options = {
        "listen_addresses": HOST,
        "port": place.port(),
        "unix_socket_directories": "",
        "shared_buffers": "32MB",
        "fsync": "on",
        "hba_file": _hand_over(
            data, "access.conf", _ACCESS_SECURE if place.secure else _ACCESS, owner
        ),
    }
    if place.secure:
        files = place.certificates
        options |= {
            "ssl": "on",
            "ssl_cert_file": _hand_over(data, "server.pem", files.certificate.read_text(), owner),
            "ssl_key_file": _hand_over(data, "server.key", files.key.read_text(), owner),
        }
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return [*_as(owner), str(programs / "postgres"), "-D", str(data), *settings]


def _owner() -> pwd.struct_passwd | None:
    """The user that runs it; None: ours."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Failed("postgres refuses to run as root, and there is neither a user postgres nor nobody")


def _as(owner: pwd.struct_passwd | None) -> list[str]:
    """What stands before a command to run it as this user; it is replaced by the command, so the
    process is the same.
    """
    if owner is None:
        return []
    return [
        str(SETPRIV.path()),
        f"--reuid={owner.pw_uid}",
        f"--regid={owner.pw_gid}",
        "--clear-groups",
    ]


def _data(place: Place, owner: pwd.struct_passwd | None) -> Path:
    """The data folder, made and given to its user.

    Where that user cannot enter our folder, it lies in /var/tmp, and a link is here.
    """
    data = place.folder / "data"
    if data.exists():
        return data.resolve()
    data.unlink(missing_ok=True)  # a link that leads nowhere any more
    data.mkdir(mode=0o700)
    if owner is None:
        return data
    os.chown(data, owner.pw_uid, owner.pw_gid)
    if subprocess.run([*_as(owner), "test", "-w", data], check=False).returncode != 0:
        elsewhere = Path(tempfile.mkdtemp(prefix="kn-chat-postgres-", dir="/var/tmp"))
        say(f"postgres: user {owner.pw_name} cannot enter {data}; its data lies in {elsewhere}")
        os.chown(elsewhere, owner.pw_uid, owner.pw_gid)
        data.rmdir()
        data.symlink_to(elsewhere)
    return data.resolve()


def _initialise(programs: Path, data: Path, place: Place, owner: pwd.struct_passwd | None) -> None:
    password = _hand_over(data.parent, f"{data.name}.password", place.password(_SUPERUSER), owner)
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
    try:
        done = subprocess.run(
            [
                *_as(owner),
                programs / "initdb",
                "-D",
                data,
                "-U",
                _SUPERUSER,
                *options,
                f"--pwfile={password}",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=data,
        )
    finally:
        Path(password).unlink()
    if done.returncode != 0:
        raise Failed(f"postgres: initdb failed:\n{done.stdout}{done.stderr}")


def _hand_over(folder: Path, name: str, text: str, owner: pwd.struct_passwd | None) -> str:
    """Writes a file that only the server's user can read."""
    path = folder / name
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if owner is not None:
            os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
        file.write(text)
    return str(path)


def _check(place: Place) -> None:
    """Our user reads in our database; both are made if the server is new."""
    if _asks(place, USER, "SELECT 1"):
        return
    password = place.password().replace("'", "''")
    _asks(
        place,
        _SUPERUSER,
        f"CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{password}'",
        database="postgres",
    )
    _asks(place, _SUPERUSER, f"CREATE DATABASE {USER} OWNER {USER}", database="postgres")
    if not _asks(place, USER, "SELECT 1"):
        raise NotReady(f"user {USER} cannot read in database {USER}")


def _asks(place: Place, user: str, statement: str, *, database: str = USER) -> bool:
    """Whether the server did this. NotReady when it cannot be asked at all."""
    context = (
        ssl.create_default_context(cafile=str(place.certificates.authority))
        if place.secure
        else None
    )
    try:
        with pg8000.native.Connection(
            user,
            host=HOST,
            port=place.port(),
            password=place.password(user),
            database=database,
            ssl_context=context,
            timeout=3,
        ) as connection:
            connection.run(statement)
    except pg8000.exceptions.DatabaseError as error:
        # Cannot connect now: it starts or ends.
        if isinstance(error.args[0], dict) and error.args[0].get("C") == "57P03":
            raise NotReady(str(error)) from error
        return False
    except pg8000.exceptions.InterfaceError as error:
        raise NotReady(str(error)) from error
    return True


def _settings(place: Place) -> dict[str, str]:
    settings = {
        "KNCHAT_DATABASE": f"postgresql://{USER}@{place.address}/{USER}",
        "KNCHAT_DATABASE_PASSWORD_FILE": str(place.password_file()),
    }
    if place.secure:
        settings["KNCHAT_DATABASE_CA"] = str(place.certificates.authority)
    return settings


# SIGTERM would wait until all clients are gone.
POSTGRES = Server(
    "postgres",
    ports=("client",),
    packages=lambda: (PROGRAMS, SETPRIV),
    prepare=_prepare,
    check=_check,
    settings=_settings,
    stops_by=signal.SIGINT,
)
