"""`kn-chat keys`: what operators put into the Secret kn-chat-keys."""

import stat

from backends.settings import Settings
from backends.signing import SigningKey
from knchat.__main__ import main
from schemas import tokens


def test_the_keys_fit_each_other_and_are_taken(tmp_path, capsys):
    """The JWKS holds the public half of the signing key, the event key is one; only their owner can
    read them.
    """
    folder = tmp_path / "keys"
    assert main(["keys", str(folder)]) == 0
    settings = Settings.from_env(
        {
            "KNCHAT_EVENT_KEYS_FILE": str(folder / "event-keys"),
            "KNCHAT_SIGNING_KEY": str(folder / "signing-key.pem"),
        }
    )

    assert sorted(path.name for path in folder.iterdir()) == [
        "event-keys",
        "jwks.json",
        "signing-key.pem",
    ]
    assert (
        tokens.keys_of((folder / "jwks.json").read_bytes()) == SigningKey.of(settings).public_keys()
    )
    assert [len(key) for key in settings.event_keys] == [32]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert (folder / "event-keys").read_text() not in capsys.readouterr().out


def test_keys_that_are_there_are_left(tmp_path, capsys):
    """A second run changes nothing: tokens and events of the old keys stay good."""
    main(["keys", str(tmp_path)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert main(["keys", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert capsys.readouterr().out.count("left as it was") == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    """In one line."""
    (tmp_path / "file").write_text("")

    assert main(["keys", str(tmp_path / "file" / "keys")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
