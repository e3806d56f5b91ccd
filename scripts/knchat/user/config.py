"""`kn-chat config`: what administrators can change while everything runs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import click

from knchat import exits
from knchat.command import group
from knchat.user import logins
from knchat.user.history import names_of

if TYPE_CHECKING:
    from knchat_client import Client, ConfigurationField, ConfigurationSection

    Value = bool | int | float | str

_EXAMPLES: Final = """\
examples:
  kn-chat config list                            the sections, and what is set in them
  kn-chat config show limits                     its fields: values, bounds, what they mean
  kn-chat config set limits user_units=500       one field; the others stay as they are
  kn-chat config set messages text_bytes=2048 pins=
                                                 FIELD= without a value: its default again
  kn-chat config history limits                  who changed what, and when

For administrators, whom an operator makes: kn-chat admin grant NAME. All processes go by a change
within 5 s, and none of them restarts. A value that is refused changes nothing; what was set by
another one meanwhile is not overwritten (stale: look again, and repeat)."""

_SECTION: Final = click.argument("section", metavar="SECTION", help="as `config list` names it")


@group(_EXAMPLES)
def run() -> None:
    """Shows and changes the configuration, section by section, while everything runs."""


@run.command("list", epilog=_EXAMPLES)
@logins.options()
def _run_list(kept: logins.Kept) -> int:
    """All sections, with what is set in them."""

    async def work(client: Client) -> None:
        for section in await client.configuration():
            print(f"{section.section:<10} {section.meaning}")
            for name, value in section.values.items():
                print(f"{'':<10}   {name}={_text(value)}")

    return _act(kept, work)


@run.command("show", epilog=_EXAMPLES)
@_SECTION
@logins.options()
def _run_show(section: str, kept: logins.Kept) -> int:
    """One section: its fields, what they are and may be, and what they mean."""

    async def work(client: Client) -> None:
        await _print(client, await client.configuration_section(section))

    return _act(kept, work)


@run.command("set", epilog=_EXAMPLES)
@_SECTION
@click.argument(
    "changes",
    nargs=-1,
    required=True,
    metavar="FIELD=VALUE...",
    help="true or false, a number, or a word; nothing: the default",
)
@logins.options()
def _run_set(section: str, changes: tuple[str, ...], kept: logins.Kept) -> int:
    """Sets fields of a section; the others stay as they are."""
    given = dict(map(_split, changes))

    async def work(client: Client) -> None:
        was = await client.configuration_section(section)
        fields = {field.name: field for field in was.fields}
        values = was.values
        for name, text in given.items():
            if text or name not in fields:
                values[name] = _value(text, fields.get(name))
            else:
                values.pop(name, None)
        await _print(
            client, await client.change_configuration(section, values, version=was.version)
        )

    return _act(kept, work)


@run.command("history", epilog=_EXAMPLES)
@_SECTION
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=20,
    metavar="N",
    help="the last N (default 20)",
)
@logins.options()
def _run_history(section: str, limit: int, kept: logins.Kept) -> int:
    """Who changed a section, when, and what was set then; the newest first."""

    async def work(client: Client) -> None:
        revisions = await client.configuration_history(section, limit=limit)
        names = await names_of(client, [revision.author for revision in revisions])
        for revision in revisions:
            head = f"{revision.version:>4}  {revision.changed}  {names[revision.author]}"
            print(f"{head}  {_line(revision.values)}")

    return _act(kept, work)


def _act(kept: logins.Kept, work: Callable[[Client], Awaitable[None]]) -> int:
    async def with_client() -> None:
        async with kept.client(listen=False, background=True) as client:
            await work(client)

    return logins.act(with_client)


def _split(change: str) -> tuple[str, str]:
    name, sign, value = change.partition("=")
    if not name or not sign:
        raise exits.Ended(f"say FIELD=VALUE, not {change!r}", exits.USAGE)
    return name, value


def _value(text: str, field: ConfigurationField | None) -> Value:
    """What the text means for the field. What it cannot mean is sent as it is: the server says what
    would be right.
    """
    if field is None or field.type == "text":
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, bool | int | float) else text


async def _print(client: Client, section: ConfigurationSection) -> None:
    print(section.meaning)
    if section.author is not None:
        names = await names_of(client, [section.author])
        print(f"version {section.version}, {section.changed}, by {names[section.author]}")
    for field in section.fields:
        sign = "*" if field.is_set else " "
        default = f", default {_text(field.default)}" if field.is_set else ""
        print(f"{sign} {field.name:<26} {_text(field.value):>8}  {_may_be(field)}{default}")
        print(f"{'':<38}{field.meaning}")


def _may_be(field: ConfigurationField) -> str:
    if field.choices:
        return ", ".join(field.choices)
    return field.unit if field.least is None else f"{field.least} to {field.most} {field.unit}"


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(values: Mapping[str, Value]) -> str:
    return " ".join(f"{name}={_text(value)}" for name, value in values.items()) or "the defaults"
