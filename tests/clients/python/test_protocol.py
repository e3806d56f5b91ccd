"""What the client shares with the server is one text: copies that were made from it and from
nothing else.
"""

from pathlib import Path

import msgspec
import pytest

from knchat_client.protocol import frames
from schemas import kinds

ROOT = Path(__file__).parents[3]
COPIES = ROOT / "clients" / "python" / "knchat_client" / "protocol"
COPIED = ("codec", "errors", "ids", "lenient")
TABLES = ("CLIENT_FRAMES", "SERVER_FRAMES")


def test_nothing_else_is_there():
    """`frames` are those of the session and of all kinds in one."""
    assert {path.stem for path in COPIES.glob("*.py")} == {"__init__", "frames", *COPIED}


@pytest.mark.parametrize("name", COPIED)
def test_the_protocol_is_a_copy(name):
    """But for its first line, which says so, and for where it imports from.

    `scripts/generate` makes it again.
    """
    head, _, copy = (COPIES / f"{name}.py").read_text().partition("\n")
    original = (ROOT / "schemas" / f"{name}.py").read_text()

    assert head == f"# Copied from schemas/{name}.py by scripts/generate; change that file."
    assert copy.replace("\nfrom knchat_client.protocol.", "\nfrom schemas.") == original.replace(
        "\nfrom schemas.kinds import", "\nfrom schemas.frames import"
    )


@pytest.mark.parametrize("table", TABLES)
def test_the_frames_are_those_of_the_kinds(table):
    """The same names, fields, limits and texts, and nothing of how they travel."""
    ours, theirs = getattr(kinds, table), getattr(frames, table)

    assert list(ours) == list(theirs)
    for name, kind in ours.items():
        assert msgspec.json.schema(kind) == msgspec.json.schema(theirs[name])
        assert kind.__struct_config__.tag == theirs[name].__struct_config__.tag
    assert "chat_pb2" not in (COPIES / "frames.py").read_text()
