"""The command `kn-chat` around its subcommands: help, version, errors in one line, exit codes."""

import argparse
import os
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest

from knchat import __main__ as command
from knchat import exits
from schemas.errors import Malformed, Refused, Unavailable


@pytest.fixture
def ending(monkeypatch):
    """Makes `kn-chat test` end as the given callable does."""

    def end(act):
        module = types.ModuleType("knchat.of_a_test")
        module.add = lambda subparsers: subparsers.add_parser("test")
        module.run = lambda args: act()
        monkeypatch.setitem(sys.modules, "knchat.of_a_test", module)
        monkeypatch.setitem(command.COMMANDS, "test", "knchat.of_a_test")
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
    """A person reads the line, a script the code; nobody reads a traceback."""
    assert ending(raising(error)) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_subcommand_may_choose_its_exit_code(returned, code, ending):
    """None is success."""
    assert ending(lambda: returned) == code


def test_a_bug_is_shown_as_one(ending):
    """What nobody expected is not dressed up as an answer."""
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
    """Who reads the help need not read the code."""
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])

    out = capsys.readouterr().out
    assert end.value.code == 0
    assert all(name in out for name in command.COMMANDS)
    assert exits.TABLE in out


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_subcommand_teaches_by_examples(name, capsys):
    """`kn-chat COMMAND --help` shows at least one line that can be pasted."""
    with pytest.raises(SystemExit) as end:
        command.main([name, "--help"])

    assert end.value.code == 0
    assert f"  kn-chat {name}" in capsys.readouterr().out


def test_every_file_with_a_subcommand_is_in_the_table():
    """A subcommand that nobody can call is none."""
    root = Path(command.__file__).parents[1]
    files = [file for file in root.glob("knchat/**/*.py") if "\ndef add(" in file.read_text()]
    with_add = {".".join(file.relative_to(root).with_suffix("").parts) for file in files}

    assert with_add == set(command.COMMANDS.values())


def test_only_the_file_that_is_asked_for_is_imported():
    """`kn-chat send` must not wait for what `dev` needs."""
    probe = "import sys; from knchat.__main__ import main; main(['--version']); print([m for m in sys.modules if m.startswith('knchat.')])"
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout

    assert "'knchat.develop.dev'" not in out


def test_a_reader_that_goes_away_is_no_crash(tmp_path):
    """`kn-chat ... | head -1` ends quietly."""
    endless = """
import sys
from knchat import __main__ as command
class Endless:
    add = staticmethod(lambda subparsers: subparsers.add_parser('endless'))
    @staticmethod
    def run(args):
        while True: print('line' * 1000)
sys.modules['knchat.endless'] = Endless
command.COMMANDS['endless'] = 'knchat.endless'
sys.exit(command.main(['endless']))
"""
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", endless], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    os.read(reading, 100)
    os.close(reading)
    _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (exits.FAILED, "")


def test_dev_takes_ports_only_as_numbers(capsys):
    """A mistyped port is named before anything starts."""
    with pytest.raises(SystemExit) as end:
        command.main(["dev", "--http-port", "http"])

    assert end.value.code == exits.USAGE
    assert "a port is a number" in capsys.readouterr().err


def test_the_parser_of_a_subcommand_is_made_alone():
    """The table's contract: `add(subparsers)` declares, and imports nothing heavy."""
    subparsers = argparse.ArgumentParser().add_subparsers()
    from knchat.develop import dev  # noqa: PLC0415 - the subject
    from knchat.operate import dead_letters  # noqa: PLC0415 - the subject

    for module in (dev, dead_letters):
        module.add(subparsers)

    assert set(subparsers.choices) == {"dev", "dead-letters"}
