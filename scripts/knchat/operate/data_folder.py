"""Which log `audit` and `dead-letters` work on: that of a data folder, or of the settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from backends.settings import Settings
from knchat import exits

option: Final = click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="data folder (KNCHAT_DATA, else .run/data)",
)
"""The command gets `folder`."""


def settings_of(folder: Path | None) -> Settings:
    """The environment's settings, on this folder where one is given.

    Raises Ended when the embedded log is asked for and is not there.
    """
    settings = Settings.from_env()
    if folder is not None:
        settings = replace(settings, data=folder)
    if settings.log == "embedded" and not (settings.data / "log.db").exists():
        raise exits.Ended(f"there is no log in {settings.data}; name the data folder with --data")
    return settings
