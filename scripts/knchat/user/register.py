"""`kn-chat register`: a new account."""

from __future__ import annotations

from typing import Final

import click

from knchat.command import command
from knchat.user import logins

_EXAMPLES: Final = """\
examples:
  kn-chat register carol                               asks for the password, twice
  kn-chat register carol --display-name 'Carol C.' --email carol@example.org
  echo 'correct horse' | kn-chat register carol        password from stdin
  kn-chat register carol --http https://chat.example.org

Prints the new user's id. Then: kn-chat login carol"""


@command(_EXAMPLES)
@click.argument("user_name", metavar="NAME")
@click.option("--display-name", metavar="TEXT", help="what others see (default: the name)")
@click.option("--email", metavar="ADDRESS")
@click.option("--phone", metavar="NUMBER")
@logins.password(twice=True)
@logins.options(user=False)
def run(
    user_name: str,
    display_name: str | None,
    email: str | None,
    phone: str | None,
    password: str,
    kept: logins.Kept,
) -> int:
    """A new account. The name has 3 to 32 of a-z 0-9 . _ -, the password 8 to 256 characters."""

    async def work() -> None:
        from knchat_client import Client  # noqa: PLC0415 - `--help` does without

        async with Client(kept.http) as client:
            profile = await client.register(
                user_name, password, display_name=display_name, email=email, phone=phone
            )
        print(profile.user)
        logins.note(f"registered; next: kn-chat login {profile.user_name}")

    return logins.act(work)
