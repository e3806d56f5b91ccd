"""The folder of the embedded log: made durably, and owned by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from backends import private
from schemas.errors import Unavailable


def own(folder: Path) -> int:
    """Makes this process the owner of the data folder until it ends or closes the file descriptor
    that it gets back.

    Raises Unavailable, in one line, when another process owns it or it cannot be written.
    """
    make(folder)
    try:
        lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        process = os.pread(lock, 20, 0).decode().strip() or "unknown"
        os.close(lock)
        raise Unavailable(
            f"{folder} is in use by another kn-chat (process {process}): stop it, or choose "
            "another data folder"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def make(folder: Path) -> None:
    """Makes missing folders and their names durable: else a power cut could take the whole log with
    its folder.

    Raises Unavailable.
    """
    try:
        for path in private.make_folder(folder):
            parent = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> Unavailable:
    """What is raised then, with the way out."""
    return Unavailable(
        f"the data folder {folder} cannot be written ({error.strerror}): choose another one "
        "(KNCHAT_DATA)"
    )
