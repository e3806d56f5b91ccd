"""docs/protocol.md on the real parts; on `dev` it is `scripts/conformance protocol` that
`scripts/test` runs.
"""

import pytest

from tests.conformance.protocol import run


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_page_is_kept_by_two_gateways(request, dev, http, capsys):
    """Every row of it, over both gateways: users of the other one are moved there."""
    if not request.config.getoption("--real"):
        pytest.skip("with --real")

    alice = ("alice", "alice-demo-password")
    failed = await run.check(http, dev.ws, None, slow=False, verbose=False, administrator=alice)

    told = capsys.readouterr().out
    assert not failed, told
    assert "this gateway owns all users" not in told
