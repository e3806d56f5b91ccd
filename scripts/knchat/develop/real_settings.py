"""What `kn-chat dev --real` needs before its first process: the settings, for itself and for its
children, and locks on its data folder and its stores.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from backends import private
from backends.settings import Settings
from knchat import exits
from schemas.errors import Malformed

EVENT_KEYS: Final = "event.keys"


def settings_of(environ: Mapping[str, str], **given: object) -> tuple[Settings, dict[str, str]]:
    """The settings of `--real`, and the environment that gives them to the children.

    Raises Malformed naming what is wrong or missing.
    """
    ours = dict(environ)
    for name in ("KNCHAT_KAFKA", "KNCHAT_DATABASE"):
        if not ours.get(name):
            raise Malformed(
                f"{name} is missing: --real runs on real stores; scripts/dev --real starts them "
                "and names them",
                field=name,
            )
    ours.setdefault("KNCHAT_LOG", "kafka")
    # Here an event costs five times what it costs embedded, so events had better be fewer
    # (decisions/0001).
    ours.setdefault("KNCHAT_PUBLISH_APART_MS", "20")
    if "KNCHAT_CASSANDRA" in ours:
        ours.setdefault("KNCHAT_CHATS", "cassandra")
    # mypy: what click gives are fields of Settings.
    settings = replace(Settings.from_env(ours), **given)  # type: ignore[arg-type]
    if settings.log == "embedded":
        raise Malformed(
            "KNCHAT_LOG is embedded, which belongs to one process: --real needs kafka, or knative "
            "with a K_SINK",
            field="KNCHAT_LOG",
        )
    ours["KNCHAT_DATA"] = str(settings.data)
    if not {"KNCHAT_EVENT_KEYS", "KNCHAT_EVENT_KEYS_FILE"} & ours.keys():
        ours["KNCHAT_EVENT_KEYS_FILE"] = str(_event_keys(settings.data))
        settings = replace(Settings.from_env(ours), **given)  # type: ignore[arg-type] # see above
    return settings, ours


def _event_keys(folder: Path) -> Path:
    """The file of the key that signs events, made if missing (design.md D23)."""
    private.make_folder(folder)
    path = folder / EVENT_KEYS
    with (
        contextlib.suppress(FileExistsError),
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        file.write(base64.b64encode(secrets.token_bytes(32)))
    return path


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keeps others of this machine away from the data folder, and from the stores: they would
    answer to the same names in Kafka's groups.

    Raises Ended in one line when another one is there. The locks end with this process, however it
    ends.
    """
    stores = hashlib.sha256(
        " ".join([*sorted(settings.kafka), settings.database]).encode()
    ).hexdigest()[:16]
    places = {
        f"the data folder {settings.data}": settings.data / "owner.lock",
        "this Kafka": Path(tempfile.gettempdir()) / f"kn-chat-{os.getuid()}-{stores}.lock",
    }
    with contextlib.ExitStack() as stack:
        for what, path in places.items():
            try:
                private.make_folder(path.parent)
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise exits.Ended(
                    f"{path} cannot be written: {error.strerror}", exits.CANNOT_START
                ) from error
            stack.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                process = os.pread(file, 20, 0).decode().strip() or "unknown"
                raise exits.Ended(
                    f"{what} is in use by another kn-chat (process {process}): stop it first",
                    exits.CANNOT_START,
                ) from error
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
