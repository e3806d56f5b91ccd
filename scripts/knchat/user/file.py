"""`kn-chat file`: upload, list and download files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from knchat import exits
from knchat.command import group
from knchat.user import logins

_EXAMPLES: Final = """\
examples:
  kn-chat file upload photo.png                       prints its id
  kn-chat send bob 'Look' --file photo.png            uploads it and sends it
  kn-chat file avatar me.png                          uploads it and shows it as mine
  kn-chat file upload walks.png --avatar              for a group: its id is the avatar
  kn-chat file list                                   mine, the newest first
  kn-chat file download 4611686018427387903 photo.png of mine, or of a chat of mine

A file that no message and no profile names is removed after a day."""


@group(_EXAMPLES)
def run() -> None:
    """Files of mine, and those that were sent to me."""


@run.command("upload", epilog=_EXAMPLES)
@click.argument("path", metavar="PATH", type=click.Path(exists=True, dir_okay=False))
@click.option("--avatar", is_flag=True, help="for a profile or a group: every user may see it")
@click.option("--name", metavar="NAME", help="another name than the path's")
@click.option("--type", "media_type", metavar="TYPE", help="like image/png (default: by the name)")
@logins.options()
def _run_upload(
    path: str, avatar: bool, name: str | None, media_type: str | None, kept: logins.Kept
) -> int:
    """Uploads a file and prints its id."""

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            file = await client.upload(
                Path(path),
                name=name,
                media_type=media_type,
                purpose="avatar" if avatar else "message",
            )
        print(file.file)
        if file.state == "held":
            logins.note("it waits for a check: try later")

    return logins.act(work)


@run.command("avatar", epilog=_EXAMPLES)
@click.argument(
    "path", metavar="PATH", required=False, type=click.Path(exists=True, dir_okay=False)
)
@click.option("--none", "none", is_flag=True, help="show none")
@logins.options()
def _run_avatar(path: str | None, none: bool, kept: logins.Kept) -> int:
    """Shows an image to all users as mine, and prints its id."""
    if (path is None) != none:
        raise click.UsageError("give either a PATH or --none")

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            profile = await client.set_avatar(None if path is None else Path(path))
        if profile.avatar is not None:
            print(profile.avatar)

    return logins.act(work)


@run.command("list", epilog=_EXAMPLES)
@logins.options()
def _run_list(kept: logins.Kept) -> int:
    """One line each: id, time, state, bytes, type, name."""

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            files = await client.files()
        for file in files:
            print(
                f"{file.file}  {file.created}  {file.state}  {file.bytes}  {file.type}  "
                f"{logins.shown(file.name)}"
            )

    return logins.act(work)


@run.command("download", epilog=_EXAMPLES)
@click.argument("file", metavar="FILE", help="its id")
@click.argument("path", metavar="PATH", help="where to; nothing may be there")
@click.option("--size", metavar="SIZE", help="a preview: thumbnail; 64, 192 or 512 of an avatar")
@logins.options()
def _run_download(file: str, path: str, size: str | None, kept: logins.Kept) -> int:
    """Writes a file that I may read to a new place."""

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            try:
                await client.download(file, Path(path), size=size)
            except OSError as error:
                raise exits.Ended(f"{path} cannot be written: {error.strerror}") from error

    return logins.act(work)
