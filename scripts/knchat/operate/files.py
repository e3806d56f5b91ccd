"""`kn-chat files`: removes what nothing refers to, and ends the quarantine of files.

`dev` sweeps by itself (`keep_sweeping`), on Knative a CronJob does. What is removed when
`functions.domain.uploads` says.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from backends.telemetry import logs
from backends.telemetry.logs import escaped
from knchat import exits
from knchat.command import group
from knchat.operate import data_folder
from schemas.errors import Refused, Unavailable
from schemas.ids import parse_id, time_text

if TYPE_CHECKING:
    from backends.files import File, FileId
    from backends.wiring import Backends

log = logging.getLogger(__name__)

_LISTED: Final = 1_000

_EXAMPLES: Final = """\
examples:
  kn-chat files sweep                       remove what nothing has referred to for a day
  kn-chat files held --json                 what waits for a check, one JSON object a line
  kn-chat files fetch 4611686018427387903 /tmp/it     the bytes of one, for a scanner
  kn-chat files release 4611686018427387903 it may be used from now on
  kn-chat files reject 4611686018427387903  it is removed

With KNCHAT_FILES_HELD=1 every upload waits until it is released or rejected; what neither happens
to is removed after a day (KNCHAT_FILE_IDLE_S)."""


@group(_EXAMPLES)
def run() -> None:
    """Files of all users: removes what is left over, and ends quarantines."""


@run.command("sweep", epilog=_EXAMPLES)
@data_folder.option
def _run_sweep(folder: Path | None) -> int:
    """Removes files that no message and no profile names, and what is left of uploads."""

    async def work(backends: Backends) -> int:
        from functions.domain.uploads import sweep  # noqa: PLC0415 - `--help` does without

        removed = await sweep(backends, now_ms=backends.clock.now_ms())
        print(f"{removed} removed")
        return exits.OK

    return _do(folder, work)


@run.command("held", epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@data_folder.option
def _run_held(as_json: bool, folder: Path | None) -> int:
    """What waits for a check, the oldest first, at most 1,000."""

    async def work(backends: Backends) -> int:
        for file in await backends.files.held(limit=_LISTED):
            print(_line(file, as_json=as_json))
        return exits.OK

    return _do(folder, work)


@run.command("fetch", epilog=_EXAMPLES)
@click.argument("file", metavar="FILE")
@click.argument("path", metavar="PATH")
@data_folder.option
def _run_fetch(file: str, path: str, folder: Path | None) -> int:
    """Writes the bytes of a held file to a new place."""

    async def work(backends: Backends) -> int:
        asked = _parse(file)
        found = (await backends.files.find([asked])).get(asked)
        if found is None or found.state != "held":
            raise Refused("not_found", f"no file {file} is held", field="file")
        content = await backends.file_store.read(found.key, limit=found.bytes)
        await asyncio.to_thread(_write, Path(path), content)
        return exits.OK

    return _do(folder, work)


@run.command("release", epilog=_EXAMPLES)
@click.argument("file", metavar="FILE")
@data_folder.option
def _run_release(file: str, folder: Path | None) -> int:
    """A held file may be used from now on."""
    return _do(folder, lambda backends: _judge(backends, file, good=True))


@run.command("reject", epilog=_EXAMPLES)
@click.argument("file", metavar="FILE")
@data_folder.option
def _run_reject(file: str, folder: Path | None) -> int:
    """A held file is removed."""
    return _do(folder, lambda backends: _judge(backends, file, good=False))


async def keep_sweeping(backends: Backends) -> None:
    """Sweeps now and then, until it is cancelled.

    What stops one sweep is logged, and the next one goes on from there.
    """
    from functions.domain.uploads import sweep  # noqa: PLC0415 - `--help` does without

    while True:
        await backends.clock.sleep(backends.settings.files_sweep_every_s)
        try:
            await sweep(backends, now_ms=backends.clock.now_ms())
        except Unavailable as error:
            log.warning("sweep of files not finished", extra={"cause": error.message})
        except Exception:
            log.exception("bug: sweep of files not finished")


def _do(folder: Path | None, work: Callable[[Backends], Awaitable[int]]) -> int:
    settings = data_folder.settings_of(folder)
    logs.set_up(settings.log_level)
    return data_folder.run(settings, work)


async def _judge(backends: Backends, file: str, *, good: bool) -> int:
    from functions.domain.uploads import judge  # noqa: PLC0415 - `--help` does without

    if not await judge(_parse(file), backends, good=good):
        raise Refused("not_found", f"no file {file} is held", field="file")
    return exits.OK


def _parse(text: str) -> FileId:
    from backends.files import FileId  # noqa: PLC0415 - `--help` does without

    return FileId(parse_id(text, name="FILE"))


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)


def _line(file: File, *, as_json: bool) -> str:
    fields = {
        "file": str(file.id),
        "owner": str(file.owner),
        "created": time_text(file.created_ms),
        "bytes": file.bytes,
        "type": file.type,
        "name": file.name,
    }
    if as_json:
        return json.dumps(fields)
    # A user's name must not steer the terminal.
    return "  ".join(escaped(str(value)) for value in fields.values())
