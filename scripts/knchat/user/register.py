"""`kn-chat register`: a new account."""

from __future__ import annotations

import argparse
from typing import Final

from knchat.user import logins

_EXAMPLES: Final = """\
examples:
  kn-chat register carol                               asks for the password, twice
  kn-chat register carol --display-name 'Carol C.' --email carol@example.org
  echo 'correct horse' | kn-chat register carol        password from stdin
  kn-chat register carol --http https://chat.example.org

Prints the new user's id. Then: kn-chat login carol"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "register",
        help="make an account",
        description="A new account. The name has 3 to 32 of a-z 0-9 . _ -, the password 8 to 256 characters.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("user_name", metavar="NAME")
    parser.add_argument("--display-name", metavar="TEXT", help="what others see (default: the name)")
    parser.add_argument("--email", metavar="ADDRESS")
    parser.add_argument("--phone", metavar="NUMBER")
    logins.add_password(parser)
    logins.add_options(parser, user=False)


def run(args: argparse.Namespace) -> int:
    password = logins.password_of(args, twice=True)

    async def work() -> None:
        from knchat_client import Client  # noqa: PLC0415 - `--help` does without

        async with Client(logins.Kept(args).http) as client:
            profile = await client.register(args.user_name, password, display_name=args.display_name, email=args.email, phone=args.phone)
        print(profile.user)
        logins.note(f"registered; next: kn-chat login {profile.user_name}")

    return logins.act(work)
