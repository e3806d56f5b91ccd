"""The data folder and its databases, which only this user reads: what people wrote lies in them in
clear text.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def make_folder(folder: Path) -> list[Path]:
    """Makes the folder for us alone (0700), and those above it that are missing; says which were
    made.

    One that is there stays as it is. Raises OSError.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return missing


def make_file(file: Path) -> None:
    """Makes the file, empty and for us alone (0600), if it is missing; takes others' rights from
    one that an older version made.

    What SQLite puts beside it (-wal, -shm) gets the rights of the database. Raises OSError.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Not opened: closing it would take SQLite's locks from this process, should it have it
        # open.
        for path in (file, *(file.with_name(f"{file.name}-{part}") for part in ("wal", "shm"))):
            with suppress(FileNotFoundError):
                held = path.stat()
                if held.st_mode & 0o077 and held.st_uid == os.geteuid() and path.is_file():
                    path.chmod(0o600)


def write_once(file: Path, content: bytes) -> bool:
    """Writes the file for us alone (0600) and makes its folder, all or nothing, and synced.

    One for all processes: False, and nothing written, where another one was first. Raises OSError.
    """
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    make_folder(file.parent)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(draft, file)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
