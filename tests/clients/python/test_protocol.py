"""What the client shares with the server is one text: a copy that was made from it and from nothing
else.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COPIES = ROOT / "clients" / "python" / "knchat_client" / "protocol"


@pytest.mark.parametrize(
    "name", sorted(path.name for path in COPIES.glob("*.py") if path.name != "__init__.py")
)
def test_the_protocol_is_a_copy(name):
    """But for its first line, which says so, and for where it imports from.

    `scripts/generate` makes it again.
    """
    head, _, copy = (COPIES / name).read_text().partition("\n")

    assert head == f"# Copied from schemas/{name} by scripts/generate; change that file."
    assert (
        copy.replace("\nfrom knchat_client.protocol.", "\nfrom schemas.")
        == (ROOT / "schemas" / name).read_text()
    )
