"""The OpenAPI document is kept: 2,000 calls made from it, right and wrong, get no other answers
than it announces. `scripts/conformance openapi --calls 20000` makes more.
"""

from __future__ import annotations

import pytest

from tests.conformance import openapi
from tests.conformance.unlimited import UNLIMITED
from tests.journeys.conftest import Dev

CALLS = 2_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_generated_calls_get_what_the_document_announces(tmp_path, capsys):
    """No schema break, and no answer of 5xx."""
    server = Dev(tmp_path / "data", "--no-demo", environ=UNLIMITED).start()
    try:
        failed = openapi.check(server.http, calls=CALLS, number=1)
    finally:
        assert server.stop() == 0

    told = capsys.readouterr().out
    assert not failed, told
    assert told.startswith(f"{CALLS} calls of ")
    assert told.endswith("0 schema breaks, 0 answers of 5xx\n")
