"""`kn-chat register`."""

import pytest

from knchat import exits

PASSWORD = "correct horse"


def test_an_account_is_made(served, knchat, tmp_path):
    """Its id on stdout, what to do next on stderr; the password may come from a file."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nsecond line\n")
    ran = knchat(
        "register",
        "Carol.one",
        "--http",
        served.http,
        "--password-file",
        str(file),
        "--display-name",
        "Carol C.",
    )

    assert (ran.code, ran.out.strip().isdigit()) == (exits.OK, True)
    assert ran.err == "registered; next: kn-chat login carol.one\n"
    assert (
        knchat("login", "carol.one", "--http", served.http, "--password", PASSWORD).out == ran.out
    )


def test_the_password_comes_from_stdin(served, knchat):
    """When stdin is no terminal."""
    assert (
        knchat("register", "carol.two", "--http", served.http, stdin=f"{PASSWORD}\n").code
        == exits.OK
    )
    assert (
        knchat(
            "login", "carol.two", "--http", served.http, "--password-file", "-", stdin=PASSWORD
        ).code
        == exits.OK
    )


@pytest.mark.parametrize(
    ("name", "password", "code", "text"),
    [
        ("carol.three", "short", exits.USAGE, "(malformed)"),
        ("c", PASSWORD, exits.USAGE, "(malformed)"),
        ("taken", PASSWORD, exits.FAILED, "(name_taken)"),
    ],
)
def test_the_server_says_no(served, knchat, name, password, code, text):
    """One line with the server's code, and an exit code."""
    knchat("register", "taken", "--http", served.http, "--password", PASSWORD)
    ran = knchat("register", name, "--http", served.http, "--password", password)

    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err
    assert ran.err.count("\n") == 1
    assert password not in ran.err


def test_wrong_usage(knchat, tmp_path):
    """A server that is none, a profile that would leave its folder, a password file that is not
    there.
    """
    for arguments in (
        ["--http", "nonsense"],
        ["--profile", "../other"],
        ["--password-file", str(tmp_path / "none")],
    ):
        assert knchat("register", "carol", *arguments).code == exits.USAGE


def test_no_server_answers(knchat, unused_tcp_port):
    """Code 5, and the server that it tried."""
    ran = knchat(
        "register", "carol", "--http", f"http://127.0.0.1:{unused_tcp_port}", "--password", PASSWORD
    )

    assert ran.code == exits.UNAVAILABLE
    assert str(unused_tcp_port) in ran.err
