"""`kn-chat login`, and the log-ins that it keeps."""

import json
import stat

from knchat import exits
from tests.journeys.conftest import PASSWORD, new_user


def files(knchat):
    return sorted(knchat.home.rglob("*"))


def test_a_log_in_is_kept(served, knchat):
    """Nothing in the folder but what was meant to be there, tokens readable by their owner alone;
    server and user become the defaults.
    """
    ann = new_user(served.http, "ann")
    ran = knchat("login", ann.name.upper(), "--http", f"{served.http}/", "--password", PASSWORD)

    assert (ran.code, ran.out) == (exits.OK, f"{ann.user}\n")
    kept = [path for path in files(knchat) if path.parent.name == ann.name]
    assert len(kept) == 4  # two devices and their locks
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert json.loads((knchat.home / "kn-chat" / "default" / "profile.json").read_text()) == {
        "http": served.http,
        "user": ann.name,
    }
    assert knchat("send", ann.name, "a note to myself").code == exits.OK


def test_logging_in_again_uses_the_same_devices(served, knchat):
    """The list of devices at the server does not grow with each log-in."""
    ann = new_user(served.http, "ann")
    for devices in ("1", "3", "2"):
        assert (
            knchat(
                "login",
                ann.name,
                "--http",
                served.http,
                "--devices",
                devices,
                "--password",
                PASSWORD,
            ).code
            == exits.OK
        )

    ann.log_in("another")
    assert len(ann.get("/v1/devices").json()["devices"]) == 4


def test_a_refused_log_in_leaves_nothing(served, knchat):
    """No file, no default."""
    ann = new_user(served.http, "ann")
    ran = knchat("login", ann.name, "--http", served.http, "--password", "not the password")

    assert (ran.code, ran.out) == (exits.FAILED, "")
    assert "(unauthorized)" in ran.err
    assert [path for path in files(knchat) if path.is_file()] == []


def test_profiles_are_apart(served, knchat, people):
    """Another profile knows nothing of these log-ins."""
    ran = knchat("history", people[0], "--profile", "other")

    assert (ran.code, ran.err) == (
        exits.FAILED,
        "kn-chat: not logged in: kn-chat login NAME\n",
    )


def test_without_a_log_in_the_error_says_what_to_do(served, knchat, people):
    """Another user, or another server."""
    ann, _ = people
    stranger = knchat("send", ann, "hi", "--user", "stranger")
    elsewhere = knchat("send", ann, "hi", "--http", "http://127.0.0.1:1")

    assert (stranger.code, elsewhere.code) == (exits.FAILED, exits.FAILED)
    assert (
        stranger.err
        == f"kn-chat: stranger is not logged in at {served.http}: kn-chat login stranger\n"
    )
    assert "http://127.0.0.1:1" in elsewhere.err


def test_each_command_takes_a_device_of_its_own(knchat, people):
    """Two run at once; a third is told how to get one more device, and a log-in leaves the busy
    ones alone.
    """
    ann, ben = people
    first, second = knchat.start("tail"), knchat.start("tail")
    first.err("connected")
    second.err("connected")
    third = knchat("send", ann, "hi")
    again = knchat("login", ben, "--password", PASSWORD)
    more = knchat("login", ben, "--password", PASSWORD, "--devices", "3")

    assert (third.code, third.err) == (
        exits.FAILED,
        f"kn-chat: all 2 devices of {ben} are busy here: kn-chat login {ben} --devices 3\n",
    )
    assert again.code == exits.FAILED
    assert more.code == exits.OK
    assert knchat("send", ann, "hi").code == exits.OK
    assert first.process.poll() is second.process.poll() is None


def test_a_damaged_memory_is_no_crash(knchat):
    """The defaults are the defaults again."""
    folder = knchat.home / "kn-chat" / "default"
    folder.mkdir(parents=True)
    (folder / "profile.json").write_text("{")
    ran = knchat("tail")

    assert (ran.code, "not logged in" in ran.err) == (exits.FAILED, True)
