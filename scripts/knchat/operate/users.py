"""`kn-chat users`: what operators do about accounts, in the database of a data folder or of the
settings.

A `dev`, or a whole cluster, may run on it meanwhile: gateways look every 2 s at what has ended, and
functions believe a token for 5 s at most (design.md D19). Everything done here is in the audit log.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from knchat import exits
from knchat.command import exclusive, group
from knchat.operate import data_folder
from knchat.operate.moments import parse_moment
from knchat.operate.recording import record
from schemas.ids import UserId, time_text

if TYPE_CHECKING:
    from backends.account_events import AccountEvent
    from backends.accounts import Holder
    from backends.wiring import Backends

_PAGE: Final = 256

_EXAMPLES: Final = """\
examples:
  kn-chat users list                       user id, user name, devices, since when suspended
  kn-chat users list --suspended --json    those who are suspended, one JSON object a line
  kn-chat users suspend alice              end all log-ins of alice, and let her in no more
  kn-chat users resume alice               she may log in again
  kn-chat users sessions alice             her devices
  kn-chat users sessions alice --end phone end the log-in of one device
  kn-chat users sessions alice --end-all   end all of them; a new log-in is possible at once
  kn-chat users audit --user alice         the audit log of one account
  kn-chat users audit --since 24h --json   of all, the last day

A user is named by user name or by id. Sessions are closed with 4403 within seconds, and access
tokens are refused within 5 s; a suspended user is told `suspended`. Exit code 1: there is no such
user or device, or it is so already."""


_as_json: Final = click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
_limit: Final = click.option(
    "--limit",
    type=click.IntRange(min=1, max=100_000),
    default=50,
    metavar="N",
    help="at most N (default 50)",
)
_user: Final = click.argument("user", metavar="USER")


@group(_EXAMPLES)
def run() -> None:
    """Accounts: who there is, who may log in, which devices are logged in, and what happened."""


@run.command("list", epilog=_EXAMPLES)
@click.option("--suspended", is_flag=True, help="only those who are")
@click.option("--after", type=int, default=0, metavar="ID", help="go on after this user id")
@_limit
@_as_json
@data_folder.option
def _run_list(suspended: bool, after: int, limit: int, as_json: bool, folder: Path | None) -> int:
    """One line each, by user id."""

    async def work(backends: Backends) -> int:
        left, last = limit, UserId(after)
        while left:
            found = await backends.suspensions.holders(
                after=last, limit=min(left, _PAGE), suspended=suspended
            )
            for holder in found:
                _show(_of_holder(holder), as_json=as_json)
                last = holder.user
            left = left - len(found) if len(found) == min(left, _PAGE) else 0
        return exits.OK

    return _ask(folder, work)


@run.command("suspend", epilog=_EXAMPLES)
@_user
@data_folder.option
def _run_suspend(user: str, folder: Path | None) -> int:
    """End all log-ins of a user, who may not log in until `resume`."""

    async def work(backends: Backends) -> int:
        holder = await _holder(user, backends)
        now_ms = backends.clock.now_ms()
        if await backends.suspensions.suspend(holder.user, now_ms=now_ms) is None:
            raise exits.Ended(f"{holder.user_name} is suspended already")
        await record("suspended", holder.user, backends)
        print(f"{holder.user_name} is suspended; devices logged out: {holder.devices}")
        return exits.OK

    return _ask(folder, work)


@run.command("resume", epilog=_EXAMPLES)
@_user
@data_folder.option
def _run_resume(user: str, folder: Path | None) -> int:
    """Let a suspended user log in again; what has ended stays ended."""

    async def work(backends: Backends) -> int:
        holder = await _holder(user, backends)
        if not await backends.suspensions.resume(holder.user):
            raise exits.Ended(f"{holder.user_name} is not suspended")
        await record("resumed", holder.user, backends)
        print(f"{holder.user_name} may log in again")
        return exits.OK

    return _ask(folder, work)


@run.command("sessions", epilog=_EXAMPLES)
@_user
@click.option("--end", metavar="DEVICE", help="end the log-in of this device")
@click.option("--end-all", is_flag=True, help="end all of them")
@_as_json
@data_folder.option
@exclusive("end", "end_all")
def _run_sessions(
    user: str, end: str | None, end_all: bool, as_json: bool, folder: Path | None
) -> int:
    """The devices of a user that are logged in; or end them."""

    async def work(backends: Backends) -> int:
        holder = await _holder(user, backends)
        now_ms = backends.clock.now_ms()
        if end is not None:
            if await backends.log_ins.end(holder.user, end, now_ms=now_ms) is None:
                raise exits.Ended(f"{holder.user_name} has no device {end}")
            await record("sessions_ended", holder.user, backends, device=end)
            print(f"{end} is logged out")
            return exits.OK
        if end_all:
            await backends.log_ins.end_all(holder.user, now_ms=now_ms)
            await record("sessions_ended", holder.user, backends)
            print(f"devices logged out: {holder.devices}")
            return exits.OK
        for device in await backends.log_ins.devices(holder.user):
            _show(
                {
                    "device": device.device,
                    "created": time_text(device.created_ms),
                    "seen": time_text(device.seen_ms),
                },
                as_json=as_json,
            )
        return exits.OK

    return _ask(folder, work)


@run.command("audit", epilog=_EXAMPLES)
@click.option("--user", "named", metavar="USER", help="of this user only")
@click.option("--since", metavar="WHEN", help="a time (RFC 3339, UTC), or how long ago: 30m, 7d")
@_limit
@_as_json
@data_folder.option
def _run_audit(
    named: str | None, since: str | None, limit: int, as_json: bool, folder: Path | None
) -> int:
    """The audit log of accounts: the newest events, the oldest of them first."""

    async def work(backends: Backends) -> int:
        user = None if named is None else (await _holder(named, backends)).user
        now_ms = backends.clock.now_ms()
        since_ms = 0 if since is None else parse_moment(since, now_ms, option="--since")
        found = await backends.account_events.read(user=user, since_ms=since_ms, limit=limit)
        for event in reversed(found):
            _show(_of_event(event), as_json=as_json)
        return exits.OK

    return _ask(folder, work)


def _ask(folder: Path | None, work: Callable[[Backends], Awaitable[int]]) -> int:
    return data_folder.run(data_folder.settings_of(folder, of="database"), work)


async def _holder(named: str, backends: Backends) -> Holder:
    """By user name, else by id. Raises Ended."""
    found = await backends.accounts.credentials(named.lower())
    user = found[0].user if found is not None else None
    if user is None and named.isascii() and named.isdigit() and len(named) < 20:
        user = UserId(int(named))
    holder = None if user is None else await backends.suspensions.holder(user)
    if holder is None:
        raise exits.Ended(f"there is no user {named}")
    return holder


def _of_holder(holder: Holder) -> dict[str, Any]:
    since = {"suspended": time_text(holder.suspended_ms)} if holder.suspended_ms else {}
    return {
        "user": str(holder.user),
        "user_name": holder.user_name,
        "devices": holder.devices,
        **since,
    }


def _of_event(event: AccountEvent) -> dict[str, Any]:
    return {
        "time": time_text(event.at_ms),
        "event": event.event,
        "user": str(event.user),
        "device": event.device,
        "address": event.address,
        "outcome": event.outcome,
        "times": event.times,
    }


def _show(fields: dict[str, Any], *, as_json: bool) -> None:
    """One line: as JSON, or the values, a dash for what is empty."""
    if as_json:
        print(json.dumps(fields))
    else:
        print("  ".join(str(value) if value != "" else "-" for value in fields.values()))
