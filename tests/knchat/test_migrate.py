"""`kn-chat migrate`: says what it did, is safe to repeat, and ends as a Job can act on."""

import secrets
import socket

import pytest


@pytest.fixture
def on(monkeypatch):
    """Sets the environment of the command."""

    def on(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return on


def test_it_says_what_it_did_and_a_repeat_has_nothing_to_do(knchat, postgres, on):
    """A Job that runs twice does no harm."""
    url = postgres.make()
    on(**postgres.environ(url))
    first, second = knchat("migrate"), knchat("migrate")
    name = url.rpartition("/")[2]

    assert (first.code, second.code) == (0, 0)
    assert first.out.splitlines()[0].startswith(f"{name}: tables made, schema ")
    assert first.out.splitlines()[1:] == [f"{name}: indexes for the search of names made"]
    assert second.out == "nothing to do\n"


def test_the_embedded_database_is_made_too(knchat, on, tmp_path):
    """`dev` would do it by itself at its start."""
    on(KNCHAT_DATA=str(tmp_path / "data"))

    assert knchat("migrate").out.startswith("data.db: tables made, schema ")
    assert knchat("migrate").out == "nothing to do\n"


def test_a_wrong_password_is_told_at_once_and_never_waited_for(knchat, postgres, on):
    """Waiting does not set it right; the text names the variable and shows no secret."""
    on(
        **postgres.environ(postgres.empty())
        | {"KNCHAT_DATABASE_PASSWORD": (wrong := secrets.token_hex(8))}
    )
    ran = knchat("migrate", "--wait", "600")

    assert ran.code == 2
    assert "KNCHAT_DATABASE_PASSWORD" in ran.err
    assert wrong not in ran.err + ran.out


def test_an_unavailable_database_is_waited_for_as_long_as_asked(knchat, on):
    """Then the exit code says that a later try may succeed."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        on(KNCHAT_DATABASE=f"postgresql://a@127.0.0.1:{unused.getsockname()[1]}/b")
        at_once, later = knchat("migrate"), knchat("migrate", "--wait", "2")

    assert (at_once.code, later.code) == (5, 5)
    assert "waiting" not in at_once.err
    assert later.err.count("waiting: the database at 127.0.0.1:") == 1


def test_a_wait_of_less_than_nothing_is_wrong_usage(knchat):
    assert knchat("migrate", "--wait", "-1").code == 2
