"""The command `kn-chat` around its subcommands: help, version, errors in one line, exit codes."""

import os
import re
import subprocess
import sys
import time
import tomllib
import types
from importlib.metadata import version
from pathlib import Path

import pytest

from knchat import __main__ as command
from knchat import exits
from knchat.command import command as make
from schemas.errors import Malformed, Refused, Unavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ending(monkeypatch):
    """Makes `kn-chat test` end as the given callable does."""

    def end(act):
        module = types.ModuleType("knchat.user.test")
        module.run = make("examples")(act)
        monkeypatch.setitem(sys.modules, "knchat.user.test", module)
        monkeypatch.setitem(command.COMMANDS, "test", command.Entry("user", "for a test"))
        return command.main(["test"])

    return end


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (exits.Ended("the port is in use", exits.CANNOT_START), 4, "kn-chat: the port is in use\n"),
        (Malformed("KNCHAT_X must be 1", field="KNCHAT_X"), 2, "kn-chat: KNCHAT_X must be 1\n"),
        (Malformed("this is no number", field="user"), 2, "kn-chat: user: this is no number\n"),
        (Refused("unauthorized", "the password is wrong"), 1, "kn-chat: the password is wrong\n"),
        (Unavailable("the server does not answer"), 5, "kn-chat: the server does not answer\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error, code, line, ending, capsys):
    """A person reads the line, a script the code; there is no traceback."""
    assert ending(raising(error)) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_subcommand_may_choose_its_exit_code(returned, code, ending):
    """None is success."""
    assert ending(lambda: returned) == code


def test_a_bug_is_shown_as_one(ending):
    """An unexpected exception is not dressed up as an answer."""
    with pytest.raises(ZeroDivisionError):
        ending(lambda: 1 // 0)


def test_the_version_is_the_packages(capsys):
    """As it is installed."""
    assert command.main(["--version"]) == exits.OK
    assert capsys.readouterr().out == f"kn-chat {version('kn-chat')}\n"


def test_without_a_subcommand_the_usage_is_shown(capsys):
    """On stderr, with the code of wrong usage."""
    assert command.main([]) == exits.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "examples:" in err


def test_help_names_every_subcommand_and_every_exit_code(capsys):
    """The help says all that a user needs."""
    assert command.main(["--help"]) == exits.OK

    out = capsys.readouterr().out
    assert all(
        f"\n  {name} " in out and entry.summary in out for name, entry in command.COMMANDS.items()
    )
    assert exits.TABLE in out


@pytest.mark.parametrize(
    "name",
    [*command.COMMANDS, *(f"dead-letters {action}" for action in ("list", "show", "redrive"))],
)
def test_every_subcommand_teaches_by_examples(name, capsys):
    """`kn-chat COMMAND --help` says what it does, and shows at least one line
    that can be pasted.
    """
    assert command.main([*name.split(), "--help"]) == exits.OK

    out = capsys.readouterr().out
    assert out.startswith(f"Usage: kn-chat {name} [OPTIONS]")
    assert out.splitlines()[2].startswith("  ")
    assert f"\n  kn-chat {name}" in out


@pytest.mark.parametrize("name", command.COMMANDS)
def test_wrong_usage_is_one_line_that_says_where_to_read_more(name, capsys):
    """With the word that is wrong, for every subcommand."""
    assert command.main([name, "--nonsense"]) == exits.USAGE

    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"kn-chat: No such option '--nonsense' (kn-chat {name} --help)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "'nonsense'"),
        (["--nonsense"], "--nonsense"),
        (["send"], "'[NAME] TEXT'"),
        (["pump"], "'--group'"),
        (["chat", "bob", "--limit", "257"], "'--limit': 257 is not in the range 0<=x<=256"),
        (
            ["upgrade", "my/overlay", "--canary", "100"],
            "'--canary': 100 is not in the range 0<=x<=99",
        ),
        (["dev", "--data", ""], "'--data': a folder's name must not be empty"),
        (["dev", "--data", "x", "--memory"], "--memory is not allowed with --data"),
        (["dead-letters", "nonsense"], "'nonsense'"),
    ],
)
def test_wrong_usage_names_what_is_wrong(words, said, capsys):
    """An option, an argument or a subcommand."""
    assert command.main(words) == exits.USAGE

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kn-chat: ")
    assert said in line


def test_every_file_with_a_subcommand_is_in_the_table():
    """A subcommand outside the table cannot be called."""
    root = Path(command.__file__).parent
    made = {
        file
        for file in root.glob("*/*.py")
        if re.search(r"^@(command|group)\(_EXAMPLES\)$", file.read_text(), re.MULTILINE)
    }

    assert made == {
        root / entry.folder / f"{name.replace('-', '_')}.py"
        for name, entry in command.COMMANDS.items()
    }


PROBE = (
    "import sys; from knchat.__main__ import main; main(sys.argv[1:]); print('loaded', "
    "*sys.modules)"
)


def loaded_by(*words):
    """The modules that a command loads in a process of its own, without those
    of Python's library.
    """
    out = subprocess.run(
        [sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True
    ).stdout
    modules = out.splitlines()[-1].split()[1:]
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names} - {
        *bare.split()
    }


def test_help_loads_click_and_nothing_slow():
    """`kn-chat --help` and completion are there at once: no file of a subcommand, no library but
    click.
    """
    loaded = loaded_by("--help")

    assert {name for name in loaded if name.partition(".")[0] != "click"} == {
        "knchat",
        "knchat.__main__",
        "knchat.exits",
        "schemas",
        "schemas.errors",
    }


def test_help_takes_no_time():
    """150 ms on an idle machine (60 ms of CPU, measured); tests run on busy ones, so the best of
    five counts, and generously.
    """
    took_s = []
    for _ in range(5):
        started_s = time.monotonic()
        subprocess.run([sys.executable, "-m", "knchat", "--help"], capture_output=True, check=True)
        took_s.append(time.monotonic() - started_s)

    assert min(took_s) < 0.5


def test_only_the_file_that_is_asked_for_is_imported():
    """`kn-chat send` must not wait for what `dev` needs."""
    files = {
        f"knchat.{entry.folder}.{name.replace('-', '_')}"
        for name, entry in command.COMMANDS.items()
    }

    assert loaded_by("send", "--help") & files == {"knchat.user.send"}


@pytest.mark.parametrize("name", command.COMMANDS)
def test_the_help_of_a_subcommand_needs_no_extra(name):
    """What `pip install kn-chat` brings is enough to read what else to install."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        requirement for extra in wanted["optional-dependencies"].values() for requirement in extra
    }
    refused = {
        re.split(r"[^A-Za-z0-9_-]", requirement)[0].lower().replace("-", "_")
        for requirement in extras
    }
    assert not {
        module
        for module in loaded_by(name, "--help")
        if module.partition(".")[0] in refused | {*command.BRINGS_DRIVER}
    }


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("uvloop", "kn-chat: test needs uvloop: pip install 'kn-chat-client'\n"),
        ("aiokafka.errors", "kn-chat: test needs aiokafka: pip install 'kn-chat[kafka]'\n"),
    ],
)
def test_an_extra_that_is_missing_is_named_in_one_line(module, line, ending, capsys):
    """With what to type; the exit code is that of a missing package."""
    assert (
        ending(raising(ModuleNotFoundError(f"No module named {module!r}", name=module)))
        == exits.MISSING
    )
    assert capsys.readouterr().err == line


def test_a_module_of_ours_that_is_missing_is_a_bug(ending):
    """No extra brings it."""
    with pytest.raises(ModuleNotFoundError):
        ending(
            raising(
                ModuleNotFoundError("No module named 'backends.nothing'", name="backends.nothing")
            )
        )


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("kn-chat de", {"delete", "deploy", "dead-letters", "dev"}),
        ("kn-chat send --ke", {"--key"}),
    ],
)
def test_the_shell_completes_subcommands_and_options(line, offered, monkeypatch, capsys):
    """As click's script for bash asks."""
    monkeypatch.setenv("_KN_CHAT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))

    assert command.main([]) == exits.OK
    assert {word.partition(",")[2] for word in capsys.readouterr().out.splitlines()} == offered


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_is_one_line():
    """Where the output goes to."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "knchat", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (
        exits.FAILED,
        "kn-chat: the output cannot be written: No space left on device\n",
    )


def test_a_reader_that_goes_away_is_no_crash(tmp_path):
    """`kn-chat ... | head -1` ends quietly."""
    endless = """
import sys
from knchat import __main__ as command
from knchat.command import command as make
class Endless:
    @staticmethod
    @make('examples')
    def run():
        while True: print('line' * 1000)
sys.modules['knchat.user.endless'] = Endless
command.COMMANDS['endless'] = command.Entry('user', 'for a test')
sys.exit(command.main(['endless']))
"""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", endless], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    os.read(reading, 100)
    os.close(reading)
    _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (exits.FAILED, "")


def test_dev_takes_ports_only_as_numbers(capsys):
    """A mistyped port is named before anything starts."""
    assert command.main(["dev", "--http-port", "http"]) == exits.USAGE
    assert "'--http-port': a port is a number" in capsys.readouterr().err


def test_what_is_named_can_be_installed():
    """Each extra is one of the package."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {*command.BRINGS.values(), *command.BRINGS_DRIVER.values()}

    assert named <= {"kn-chat-client", *(f"kn-chat[{extra}]" for extra in extras)}
    assert {entry.folder for entry in command.COMMANDS.values()} == set(command.BRINGS)
