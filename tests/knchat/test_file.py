"""`kn-chat file`, `kn-chat send --file`, and `kn-chat files`."""

from __future__ import annotations

import json
import re

import pytest

from knchat import exits
from tests.functions.file_contents import png
from tests.journeys.conftest import PASSWORD, Dev, new_user


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'a "photo" ü.png'
    path.write_bytes(png())
    return path


def told(ran):
    assert ran.code == exits.OK, ran
    return ran.out.strip()


def test_a_file_goes_up_and_comes_down(knchat, people, photo, tmp_path):
    """The list shows it; nothing is overwritten."""
    file = told(knchat("file", "upload", str(photo)))
    listed = told(knchat("file", "list"))
    assert re.fullmatch(
        rf'{file}  \S+  complete  {len(png())}  image/png  a "photo" ü\.png', listed
    )

    got = tmp_path / "got.png"
    assert told(knchat("file", "download", file, str(got))) == ""
    assert got.read_bytes() == png()
    again = knchat("file", "download", file, str(got))
    assert (again.code, "cannot be written" in again.err) == (exits.FAILED, True)


def test_a_message_brings_a_file(knchat, people, photo, tmp_path):
    """With a text or without; the other one reads both, and the history names them."""
    ann, ben = people
    told(knchat("send", ann, "--file", str(photo)))
    told(knchat("send", ann, "Look", "--file", str(photo)))
    lines = []
    while len(lines) < 2:
        lines = told(knchat("history", ben, "--user", ann)).splitlines()
    found = [re.search(r'([^:]*)\[a "photo" ü\.png (\d+)\]$', line) for line in lines]

    assert [one[1].strip() for one in found] == ["", "Look"]
    got = tmp_path / "got.png"
    told(knchat("file", "download", found[0][2], str(got), "--user", ann))
    assert got.read_bytes() == png()


def test_an_avatar_is_seen_by_every_user(knchat, people, photo, tmp_path):
    """Unlike a file that was not sent; as soon as it is shown, its squares are there."""
    ann, _ = people
    hidden = told(knchat("file", "upload", str(photo)))
    shown = told(knchat("file", "avatar", str(photo)))
    got = tmp_path / "got.webp"

    assert "(not_found)" in knchat("file", "download", hidden, str(got), "--user", ann).err
    small = "file", "download", shown, str(got), "--size", "64", "--user", ann
    assert told(knchat(*small)) == ""
    assert got.read_bytes()[8:12] == b"WEBP"
    assert told(knchat("file", "avatar", "--none")) == ""
    assert knchat("file", "avatar").code == exits.USAGE


def test_what_is_wrong_on_the_command_line(knchat, people, photo, tmp_path):
    """No such path; nothing to send; a content that is not what its name says."""
    ann, _ = people
    page = tmp_path / "page.png"
    page.write_bytes(b"<!doctype html><script>alert(1)</script>")

    assert knchat("file", "upload", str(tmp_path / "none")).code == exits.USAGE
    assert knchat("send").code == exits.USAGE
    assert knchat("send", ann).code == exits.USAGE
    assert "(malformed)" in knchat("file", "upload", str(page)).err
    assert "(malformed)" in knchat("file", "download", "x", str(tmp_path / "x")).err


def test_operators_release_reject_and_sweep(knchat, photo, tmp_path):
    """Held files are listed and fetched; what is rejected is gone with the next sweep."""
    environ = {"KNCHAT_FILES_HELD": "1", "KNCHAT_FILES_SWEEP_EVERY_S": "0"}
    server = Dev(tmp_path / "held" / "data", "--no-demo", environ=environ)
    server.log_folder.mkdir()
    server.start()
    try:
        eve = new_user(server.http, "eve")
        login = ("login", eve.name, "--http", server.http, "--password", PASSWORD)
        assert knchat(*login).code == exits.OK
        good = told(knchat("file", "upload", str(photo)))
        bad = told(knchat("file", "upload", str(photo)))
        data = ("--data", str(server.folder))
        held = [
            json.loads(line) for line in told(knchat("files", "held", "--json", *data)).split("\n")
        ]
        assert [one["file"] for one in held] == [good, bad]
        told(knchat("files", "fetch", good, str(tmp_path / "looked-at"), *data))
        assert (tmp_path / "looked-at").read_bytes() == png()
        assert "(forbidden)" in knchat("file", "download", good, str(tmp_path / "x")).err

        told(knchat("files", "release", good, *data))
        told(knchat("files", "reject", bad, *data))
        assert knchat("files", "release", bad, *data).code != exits.OK
        told(knchat("file", "download", good, str(tmp_path / "x")))
        assert told(knchat("files", "sweep", *data)) == "0 removed"
        assert len(told(knchat("file", "list")).splitlines()) == 1
    finally:
        assert server.stop() == 0
