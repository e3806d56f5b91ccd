"""The command `kn-chat`: finds the subcommand's file in COMMANDS, runs it, and turns errors into
one line and an exit code.

Only the file that is asked for is imported, for its `run` (`command.py` says how it is made);
`--help` imports none.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from knchat import exits
from schemas.errors import ChatError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Entry(NamedTuple):
    """Where a subcommand is, and what it does, for the list of all."""

    folder: str
    summary: str
    heading: str = ""
    """Empty: that of its folder."""


COMMANDS: Final = {
    "register": Entry("user", "make an account"),
    "login": Entry("user", "log in, so that other commands need no password"),
    "send": Entry("user", "send a message"),
    "file": Entry("user", "upload, list and download files"),
    "edit": Entry("user", "give a message of mine another text"),
    "delete": Entry("user", "delete a message, for me or for all"),
    "react": Entry("user", "put an emoji to a message"),
    "pin": Entry("user", "pin a message to its chat"),
    "group": Entry("user", "make a group, and change who is in it"),
    "mine": Entry("user", "mute, pin or archive a chat, or keep a draft for it"),
    "chat": Entry("user", "talk with another user, line by line"),
    "history": Entry("user", "read what was said"),
    "search": Entry("user", "find messages by what they say"),
    "contacts": Entry("user", "list your contacts, invite people, and answer them"),
    "block": Entry("user", "block a user, or list whom you block"),
    "privacy": Entry("user", "who may write to you, and what others see of you"),
    "tail": Entry("user", "print everything that is pushed, as JSON lines"),
    "config": Entry("user", "see and change the configuration while all runs", "Operate"),
    "admin": Entry("operate", "say which users are administrators"),
    "keys": Entry("operate", "make the keys of an installation, as files"),
    "hosts": Entry("operate", "print the hosts, routes and certificates of an overlay"),
    "migrate": Entry("operate", "bring the stores to what this version needs"),
    "topics": Entry("operate", "make or check the topics on Kafka"),
    "deploy": Entry("operate", "bring everything to a Knative cluster"),
    "status": Entry("operate", "show what is on a Knative cluster"),
    "upgrade": Entry("operate", "bring a new version to a Knative cluster"),
    "remove": Entry("operate", "take everything off a Knative cluster"),
    "doctor": Entry("operate", "find what is wrong on a Knative cluster, and say what to do"),
    "dead-letters": Entry("operate", "list, show and re-drive what could not be processed"),
    "users": Entry("operate", "list accounts, suspend and resume them, end their sessions"),
    "audit": Entry("operate", "find and repair what was acknowledged and then lost on the way"),
    "files": Entry("operate", "remove files that nothing refers to, and end quarantines"),
    "reindex": Entry("operate", "make the index that searches look into again"),
    "dev": Entry("develop", "start everything on this machine, in one process"),
    "pump": Entry("develop", "bring the events of one source to their function, without Knative"),
}
"""Subcommand -> its entry, in the order of `--help`."""

BRINGS: Final = {"user": "kn-chat-client", "operate": "kn-chat[operate]", "develop": "kn-chat[dev]"}
"""Folder -> what is installed for its subcommands."""
BRINGS_DRIVER: Final = {
    "aiokafka": "kn-chat[kafka]",
    "crc32c": "kn-chat[kafka]",
    "kafka": "kn-chat[kafka]",
    "aiohttp": "kn-chat[knative]",
    "multidict": "kn-chat[knative]",
    "yarl": "kn-chat[knative]",
    "cassandra": "kn-chat[cassandra]",
    "pg8000": "kn-chat[postgres]",
    "scramp": "kn-chat[postgres]",
    "redis": "kn-chat[redis]",
    "boto3": "kn-chat[s3]",
    "botocore": "kn-chat[s3]",
    "opentelemetry": "kn-chat[otlp]",
}
"""Module -> what is installed for it, whatever the subcommand: which stores there are is said by
the settings.
"""

_HEADINGS: Final = {"user": "Talk", "operate": "Operate", "develop": "Develop"}

_COMPLETION: Final = "_KN_CHAT_COMPLETE"
"""Set by the shell that wants to complete a line: click's name for it."""

_EXAMPLES: Final = f"""\
examples:
  kn-chat dev                          start everything on this machine, with demo users
  kn-chat login alice                  log in at it, as alice of the demo
  kn-chat send bob 'Hello, Bob'        send a message
  kn-chat chat bob                     talk, line by line
  kn-chat history bob --limit 20       read what was said
  kn-chat dead-letters list            see what could not be processed
  kn-chat audit --repair               find and repair what was lost on the way
  kn-chat deploy OVERLAY               bring everything to a Knative cluster
  kn-chat doctor                       what is wrong there, and what to do
  kn-chat COMMAND --help               more examples

As a plugin of kn: kn chat dev, kn chat send, ...
Completion by Tab: eval "$(_KN_CHAT_COMPLETE=bash_source kn-chat)" in ~/.bashrc (zsh_source in
~/.zshrc)

{exits.TABLE}"""


class _KnChat(click.Group):
    """All subcommands.

    It imports a file when its subcommand is asked for, and none for the list of them.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - see above
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(
            f"knchat.{COMMANDS[cmd_name].folder}.{cmd_name.replace('-', '_')}"
        ).run
        return found

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - see above
        formatter: click.HelpFormatter,
    ) -> None:
        for heading in _HEADINGS.values():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name, entry.summary)
                        for name, entry in COMMANDS.items()
                        if (entry.heading or _HEADINGS[entry.folder]) == heading
                    ]
                )

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002 - see above
        formatter: click.HelpFormatter,
    ) -> None:
        formatter.write(f"\n{_EXAMPLES}\n")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell needs it

        named = [
            CompletionItem(name, help=entry.summary)
            for name, entry in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=_KnChat, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.version_option(package_name="kn-chat", prog_name="kn-chat", message="%(prog)s %(version)s")
def kn_chat() -> None:
    """A serverless chat engine: run it, use it, look after it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if asked := os.environ.get(_COMPLETION):
        from click.shell_completion import shell_complete  # noqa: PLC0415 - only a shell needs it

        return shell_complete(kn_chat, {}, "kn-chat", _COMPLETION, asked)
    try:
        # Not click's `main`: it has words and exit codes of its own for what `exits` says.
        with kn_chat.make_context("kn-chat", arguments) as context:
            code: int | None = kn_chat.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return exits.USAGE
    except click.UsageError as error:
        print(f"kn-chat: {_line_of(error)}", file=sys.stderr)
        return exits.USAGE
    except exits.Ended as end:
        print(f"kn-chat: {end}", file=sys.stderr)
        return end.code
    except ChatError as error:
        print(f"kn-chat: {exits.line_of(error)}", file=sys.stderr)
        return exits.code_of(error)
    except ModuleNotFoundError as error:
        print(f"kn-chat: {_what_to_install(error, arguments[0])}", file=sys.stderr)
        return exits.MISSING
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except OSError as error:
        if error.errno not in {errno.EPIPE, errno.ENOSPC}:
            raise
        if error.errno == errno.ENOSPC:  # else the reader of our output has gone (`| head`)
            print(f"kn-chat: the output cannot be written: {error.strerror}", file=sys.stderr)
        # What Python still holds for it must not fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    return code or exits.OK


def _line_of(error: click.UsageError) -> str:
    """What is wrong with the words of the command line, and where to read what is right."""
    text = " ".join(error.format_message().split()).removesuffix(".")
    return f"{text} ({error.ctx.command_path if error.ctx else 'kn-chat'} --help)"


def _what_to_install(error: ModuleNotFoundError, name: str) -> str:
    """What brings the module that a subcommand needs.

    Raises the error when it is one of ours: that is a bug.
    """
    module = (error.name or "").partition(".")[0]
    if module in {"", "schemas", "backends", "functions", "gateway", "knchat"}:
        raise error
    return (
        f"{name} needs {module}: pip install "
        f"'{BRINGS_DRIVER.get(module, BRINGS[COMMANDS[name].folder])}'"
    )


if __name__ == "__main__":
    sys.exit(main())
