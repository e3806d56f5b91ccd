"""The user that a client subcommand acts for: the options they share, and the log-ins kept in the
user's configuration folder.

A profile is a folder: `profile.json` remembers the server and who logged in last; `<user
name>/<device>.json` is one device's log-in. Each running command takes one device for itself (two
sessions of one device would end each other), so `login` makes a few.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from knchat import exits
from knchat.command import Callback, declared, exclusive

if TYPE_CHECKING:
    from knchat_client import Client, FileTokens, Profile
    from knchat_client.protocol.frames import HistoryMessage, Message

DEFAULT_HTTP: Final = "http://127.0.0.1:8080"
# Control characters, and those that turn the direction of what follows.
_STEERING: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_PROFILE: Final = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9._\-]{0,63}", re.ASCII)


def options(*, user: bool = True) -> Callable[[Callback], Callback]:
    """--http and --profile, and --user where the command needs a log-in: the
    command gets `kept`.
    """

    def of(act: Callback) -> Callback:
        @wraps(act)
        def with_kept(
            http: str | None, profile: str, user: str | None = None, **given: Any
        ) -> int | None:
            return act(**given, kept=Kept(http, profile, user))

        shared = [
            click.option(
                "--http",
                metavar="URL",
                type=_url,
                help=f"the server (default: the one used last, else {DEFAULT_HTTP})",
            ),
            click.option(
                "--profile",
                metavar="NAME",
                type=_profile,
                default="default",
                help="a set of log-ins of its own",
            ),
        ]
        if user:
            shared.append(
                click.option(
                    "--user", metavar="NAME", help="act for this user (default: who logged in last)"
                )
            )
        return declared(with_kept, *shared)

    return of


def password(*, twice: bool = False) -> Callable[[Callback], Callback]:
    """How a password is given: asked for, unless one of two options is there.

    The command has a `user_name`, and gets `password`.
    """

    def of(act: Callback) -> Callback:
        @wraps(act)
        def with_password(
            user_name: str, password_file: str | None, password: str | None, **given: Any
        ) -> int | None:
            return act(
                user_name=user_name,
                password=_password(user_name, password_file, password, twice=twice),
                **given,
            )

        return declared(
            exclusive("password_file", "password")(with_password),
            click.option(
                "--password-file",
                metavar="FILE",
                help="read the password from the first line of a file; -: from stdin",
            ),
            click.option(
                "--password",
                metavar="TEXT",
                help="the password itself; others here can see it, so for demonstrations only",
            ),
        )

    return of


def _password(user_name: str, file: str | None, given: str | None, *, twice: bool) -> str:
    """The password, as it was given or asked for. Never printed."""
    if given is not None:
        return given
    if file not in {None, "-"}:
        try:
            return Path(str(file)).read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise exits.Ended(f"the password cannot be read: {error}", exits.USAGE) from error
    if file is None and sys.stdin.isatty():
        password = getpass.getpass(f"Password of {user_name}: ", stream=sys.stderr)
        if twice and getpass.getpass("The same again: ", stream=sys.stderr) != password:
            raise exits.Ended("the two passwords differ", exits.USAGE)
        return password
    return sys.stdin.readline().rstrip("\n")


def act(work: Callable[[], Awaitable[None]]) -> int:
    """Runs a subcommand's work; what the server says no to ends it, with the server's code in the
    line.
    """
    from knchat_client import ChatError  # noqa: PLC0415 - `--help` does without

    async def run() -> None:
        await work()

    try:
        asyncio.run(run())
    except ChatError as error:
        raise exits.Ended(f"{exits.line_of(error)} ({error.code})", exits.code_of(error)) from error
    return exits.OK


def note(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


class Kept:
    """The log-ins of one profile."""

    def __init__(self, http: str | None, profile: str, user: str | None) -> None:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self._folder = base / "kn-chat" / profile
        try:
            self._remembered: dict[str, str] = json.loads(
                (self._folder / "profile.json").read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            self._remembered = {}
        self._user = user
        self.http: str = http or self._remembered.get("http") or DEFAULT_HTTP

    def remember(self, user_name: str) -> None:
        """This server and this user are the defaults from now on."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "profile.json").write_text(
            json.dumps({"http": self.http, "user": user_name}) + "\n", encoding="utf-8"
        )

    def client(self, **options: Any) -> Client:
        """A client on a device of the user that no other command uses."""
        from knchat_client import Client  # noqa: PLC0415 - `--help` does without

        user_name = (self._user or self._remembered.get("user", "")).lower()
        if not user_name:
            raise exits.Ended("not logged in: kn-chat login NAME")
        in_use = 0
        for path in self.devices(user_name):
            if (tokens := take(path)) is None:
                in_use += 1
            elif (login := tokens.load()) is not None and login.http_url == self.http:
                return Client(self.http, tokens=tokens, **options)
            else:
                tokens.close()
        if in_use:
            raise exits.Ended(
                f"all {in_use} devices of {user_name} are busy here: kn-chat login {user_name} "
                f"--devices {in_use + 1}"
            )
        raise exits.Ended(f"{user_name} is not logged in at {self.http}: kn-chat login {user_name}")

    def devices(self, user_name: str) -> list[Path]:
        """The files of this user's devices."""
        return sorted((self._folder / user_name).glob("*.json"))

    def new_device(self, user_name: str, device: str) -> Path:
        """Where the log-in of one more device goes."""
        return self._folder / user_name / f"{device}.json"


def take(path: Path) -> FileTokens | None:
    """The log-in in this file, for this process alone; None when another command holds it."""
    from knchat_client import DeviceInUse, FileTokens  # noqa: PLC0415 - `--help` does without

    try:
        return FileTokens(path)
    except DeviceInUse:
        return None


def shown(text: object) -> str:
    """A text of another user on one line of a terminal, which it must not steer.

    Nothing for a message without text.
    """
    if not isinstance(text, str):
        return ""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", "\\n"))


def said(message: Message | HistoryMessage) -> str:
    """A message on one line: its text, what became of it, and its reactions."""
    if not isinstance(getattr(message, "deleted", None), str):
        edited = " (edited)" if isinstance(getattr(message, "edited", None), str) else ""
        given = [f" {one.emoji}{one.count}" for one in getattr(message, "reactions", ())]
        event = getattr(message, "event", None)
        file = getattr(message, "file", None)
        named = getattr(file, "name", None)
        brought = f"[{shown(named)} {getattr(file, 'file', '')}]" if named else ""
        text = " ".join(filter(None, (shown(message.text), brought)))
        text = text or f"({getattr(event, 'kind', 'nothing')})"
        return "".join([text, edited, *given])
    return "(deleted)"


async def person(client: Client, name: str) -> Profile:
    """The user of this name, or of this id. Raises Refused unknown_user."""
    from knchat_client import Refused  # noqa: PLC0415 - `--help` does without

    if len(name) >= 3:  # no name is shorter
        try:
            return await client.user_named(name)
        except Refused as error:
            if error.code != "unknown_user" or not (name.isascii() and name.isdigit()):
                raise
    for profile in await client.profiles([name]) if name.isascii() and name.isdigit() else []:
        return profile
    raise Refused("unknown_user", f"there is no user {name}")


def _url(text: str) -> str:
    if not re.match(r"https?://[^/\s]+", text):
        raise click.BadParameter("a server is named like http://127.0.0.1:8080")
    return text.rstrip("/")


def _profile(text: str) -> str:
    if not _PROFILE.fullmatch(text):
        raise click.BadParameter("a profile's name has letters, digits, . _ -")
    return text
