"""What every command of `kn-chat` is made with: click, with help that keeps our examples as they
are written.

A file of a subcommand has `run`, made with `command` (or `group`): a function that returns an exit
code (None is 0). It is imported when the subcommand is asked for; what is slow to import it imports
inside the function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

Callback = Callable[..., int | None]
"""What a subcommand does, with an argument for each option and argument of its command line."""


class _Examples(click.Command):
    """Ends its help with its examples. click would fill them up to paragraphs."""

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        formatter.write(f"\n{self.epilog}\n")


class _Group(_Examples, click.Group):
    """The same for a subcommand with subcommands of its own, in the order of their declaration."""

    command_class = _Examples

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - see above
        return list(self.commands)


def command(examples: str) -> Callable[[Callback], click.Command]:
    """Makes a subcommand of a function.

    Its docstring is the help, which ends with these examples.
    """
    return click.command(cls=_Examples, epilog=examples)


def group(examples: str) -> Callable[[Callable[[], None]], click.Group]:
    """Makes a subcommand that has subcommands: its `command` declares them."""
    return click.group(cls=_Group, epilog=examples)


def exclusive(*names: str) -> Callable[[Callback], Callback]:
    """Lets at most one of these options be given, by the names of their arguments."""

    def of(callback: Callback) -> Callback:
        @wraps(callback)
        def checked(**given: Any) -> int | None:
            first, *others = [f"--{name.replace('_', '-')}" for name in names if given[name]] or [
                ""
            ]
            if others:
                raise click.UsageError(
                    f"{others[0]} is not allowed with {first}", click.get_current_context()
                )
            return callback(**given)

        return checked

    return of


def declared(callback: Callback, *shared: Callable[[Callback], Callback]) -> Callback:
    """What these options make of a function, to be shown in this order: for options that several
    subcommands share.
    """
    for option in reversed(shared):
        callback = option(callback)
    return callback
