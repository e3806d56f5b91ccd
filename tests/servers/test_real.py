"""The fixtures of `tests/real.py` lead to servers that answer, and their tests are marked."""

import pytest


@pytest.mark.parametrize("server", ["kafka", "cassandra", "postgres", "redis"])
def test_the_settings_of_a_server_are_fields_of_settings(request, server):
    """What an adapter is wired with."""
    settings = request.getfixturevalue(f"{server}_settings")

    assert {"kafka": "kafka", "cassandra": "cassandra", "postgres": "database", "redis": "redis"}[server] in settings
    assert request.node.get_closest_marker("real")
