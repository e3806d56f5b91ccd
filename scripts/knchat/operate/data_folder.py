"""The stores that operators' commands work on: those of a data folder, or of the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from backends.settings import Settings
from knchat import exits

if TYPE_CHECKING:
    from backends.wiring import Backends

option: Final = click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="data folder (KNCHAT_DATA, else .run/data)",
)
"""The command gets `folder`."""


def settings_of(folder: Path | None, *, of: Literal["log", "database"] = "log") -> Settings:
    """The environment's settings, on this folder where one is given.

    Raises Ended when the embedded log is asked for and is not there; `of` the database: when that
    lies in the folder and is not there.
    """
    settings = Settings.from_env()
    if folder is not None:
        settings = replace(settings, data=folder)
    is_here = not settings.database if of == "database" else settings.log == "embedded"
    file = "data.db" if of == "database" else "log.db"
    if is_here and not (settings.data / file).exists():
        raise exits.Ended(f"there is no {of} in {settings.data}; name the data folder with --data")
    return settings


def run(settings: Settings, work: Callable[[Backends], Awaitable[int]]) -> int:
    """Does the work of a command on the stores that the settings name; the exit code.

    By the database's clock: by this machine's, what ends something might lie before it.
    """

    async def done() -> int:
        from backends.wiring import Backends  # noqa: PLC0415 - `--help` does without

        backends = Backends(settings)
        try:
            await backends.clock.follow(backends.accounts)
            return await work(backends)
        finally:
            await backends.close()

    return asyncio.run(done())
