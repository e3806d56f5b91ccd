"""The command `kn-chat`: finds the subcommand's file in COMMANDS, runs it, and turns errors into one line and an exit code.

A subcommand's file has `add(subparsers)`, which declares its arguments, and `run(args)`, which returns an exit code (None is 0). Only the
file that is asked for is imported; what is slow to import it imports in `run`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from knchat import exits
from schemas.errors import ChatError

COMMANDS: Final = {
    "dev": "knchat.develop.dev",
    "register": "knchat.user.register",
    "login": "knchat.user.login",
    "send": "knchat.user.send",
    "chat": "knchat.user.chat",
    "history": "knchat.user.history",
    "tail": "knchat.user.tail",
    "dead-letters": "knchat.operate.dead_letters",
    "audit": "knchat.operate.audit",
    "pump": "knchat.develop.pump",
    "migrate": "knchat.operate.migrate",
    "topics": "knchat.operate.topics",
    "keys": "knchat.operate.keys",
    "hosts": "knchat.operate.hosts",
    "deploy": "knchat.operate.deploy",
    "status": "knchat.operate.status",
    "upgrade": "knchat.operate.upgrade",
    "remove": "knchat.operate.remove",
    "doctor": "knchat.operate.doctor",
}
"""Subcommand -> its file, in the order of `--help`."""

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

{exits.TABLE}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="kn-chat",
        description="A serverless chat engine: run it, use it, look after it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="show the version and end")
    if arguments[:1] == ["--version"]:
        from importlib.metadata import version  # noqa: PLC0415 - nothing else needs it

        print(f"kn-chat {version('kn-chat')}")
        return exits.OK
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    named = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name in [named] if named else COMMANDS:
        import_module(COMMANDS[name]).add(subparsers)
    args, left = parser.parse_known_args(arguments)
    # argparse takes words in a row only, and people write `send bob --user alice Hello`.
    if left and hasattr(args, "words") and not any(word.startswith("-") for word in left):
        args.words += left
    elif left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if args.command is None:
        parser.print_help(sys.stderr)
        return exits.USAGE
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        code: int | None = import_module(COMMANDS[args.command]).run(args)
        sys.stdout.flush()
    except exits.Ended as end:
        print(f"kn-chat: {end}", file=sys.stderr)
        return end.code
    except ChatError as error:
        print(f"kn-chat: {exits.line_of(error)}", file=sys.stderr)
        return exits.code_of(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`). What Python still holds for it must not fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    return code or exits.OK


if __name__ == "__main__":
    sys.exit(main())
