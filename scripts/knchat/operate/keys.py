"""`kn-chat keys`: makes the keys of an installation as files in a folder, for the Secret
kn-chat-keys.

It never writes over one. What signs events, what signs access tokens, and the public half of that.
Nothing of them is printed.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import Final

import click

from backends.settings import Settings
from backends.signing import KEY_FILE, SigningKey
from knchat import exits
from knchat.command import command

EVENT_KEYS: Final = "event-keys"
JWKS: Final = "jwks.json"

_EXAMPLES: Final = """\
examples:
  kn-chat keys my-keys                 make my-keys/event-keys, signing-key.pem and jwks.json
  kubectl -n chat create secret generic kn-chat-keys --from-file=my-keys

Keep the folder where you keep secrets, or delete it when the Secret is there. A file that is there
already is left as it is."""


@command(_EXAMPLES)
@click.argument(
    "folder", type=click.Path(path_type=Path), help="where they are written; made if it is missing"
)
def run(folder: Path) -> int:
    """Makes the keys that sign events and access tokens, for the Secret kn-chat-keys."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = SigningKey.of(Settings(data=folder))
        made = [
            _write(folder / EVENT_KEYS, base64.b64encode(secrets.token_bytes(32)).decode()),
            _write(folder / JWKS, json.dumps({"keys": [dict(key.jwk)]})),
        ]
    except OSError as error:
        raise exits.Ended(f"{folder}: {error.strerror}") from error
    print("\n".join([str(folder / KEY_FILE), *made]))
    return exits.OK


def _write(path: Path, text: str) -> str:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        return f"{path} (left as it was)"
    return str(path)
