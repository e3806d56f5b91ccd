"""Accounts over HTTP: people register, change and find profiles. The target serves their devices and the documents of all calls too.

Rules on top, doors below, the target at the end. `dev` calls `register` as well, for its demonstration users.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import functions_framework.aio

from backends.accounts import Profile
from functions import devices, documents
from functions.devices import Login, own_profile
from functions.guard import stands
from functions.passwords import check_choice, passwords_of
from functions.routes import Asked, Door, answer
from schemas import bodies, calls
from schemas.errors import Malformed, Refused
from schemas.ids import UserId, parse_id, parse_user, random_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from backends.wiring import Backends
    from schemas.tokens import Claims


async def register(body: bodies.NewUser, backends: Backends, *, user: UserId | None = None) -> Profile:
    """A new account, under a random id unless one is given. Raises Refused name_taken, Unavailable.

    With an id given, a repeat finds the account as it is now and changes nothing. Raises Malformed for a password that is among the
    commonest, or the user name.
    """
    check_choice(body.password, body.user_name, field="password")
    password_hash = await passwords_of(backends).hash(body.password)
    profile = Profile(
        user=user or UserId(random_id()),
        user_name=body.user_name,
        display_name=body.display_name or body.user_name,
        version=1,
        phone=body.phone,
        email=body.email,
    )
    try:
        await backends.accounts.register(profile, password_hash)
    except Refused:
        found = await backends.accounts.credentials(body.user_name)
        if user is None or found is None or found[0].user != user:
            raise
        return found[0]
    return profile


async def change_profile(user: UserId, change: bodies.ProfileChange, backends: Backends) -> Profile:
    """The changed profile. Raises Refused stale when the version is not the newest."""
    profile = await _profile(user, backends)
    given = {name: getattr(change, name) for name in change.model_fields_set if name != "version"}
    changed = replace(profile, **given, version=profile.version + 1)
    if parse_id(change.version, name="version") != profile.version or not await backends.accounts.change_profile(changed):
        raise Refused("stale", "the profile has changed since: read it again", field="version")
    return changed


async def change_password(claims: Claims, change: bodies.PasswordChange, backends: Backends, *, now_ms: int) -> Login:
    """Sets a new password and ends all log-ins in the same step; the device that asks begins a new one.

    A repeat, with the token that the first try has ended, gives new tokens again: whoever knows the new password may have them.
    Raises Refused unauthorized when the device is logged out, forbidden when the old password is wrong, rate_limited, stale when another
    change came between; Malformed when the new one is among the commonest.
    """
    user, passwords = claims.user, passwords_of(backends)
    was = await backends.log_ins.device(user, claims.device)
    if was is None:
        raise Refused("unauthorized", "this device is logged out: log in again")
    profile = await _profile(user, backends)
    check_choice(change.new_password, profile.user_name, field="new_password")
    kept = await backends.accounts.password_hash(user)
    done = not stands(claims, was)
    if kept is None or not await passwords.check_change(user, change.new_password if done else change.password, kept):
        if done:
            raise Refused("unauthorized", "this device was logged out since: log in again")
        raise Refused("forbidden", "that is not your password", field="password")
    device, secret = devices.new_device(user, claims.device, was.device_name, now_ms=now_ms, epoch=was.epoch)
    if done:
        begun = await backends.log_ins.begin(device)
    else:
        fresh = await passwords.hash(change.new_password)
        changed = await backends.log_ins.change_password(user, fresh, was=kept, kept=device)
        begun = None if changed is None else (changed[0], [changed[1]])
    if begun is None:
        raise Refused("stale", "the password has just been changed", field="password")
    device, ended = begun
    await devices.told(ended, backends, why="log_in" if done else "password")
    await devices.believed(device, backends)
    return Login(device, profile, devices.refresh_token(device, secret))


async def find_users(query: bodies.UsersQuery, backends: Backends) -> Sequence[Profile]:
    """By a part of a name, by user name; or by ids, in their order, those that exist."""
    if (query.search is None) == (query.ids is None):
        raise Malformed("give search or ids", field="search")
    if query.search is not None:
        return await backends.accounts.search(query.search, limit=query.limit)
    ids = dict.fromkeys(parse_user(text, name="ids") for text in (query.ids or "").split(","))
    if len(ids) > bodies.IDS_AT_ONCE:
        raise Malformed(f"at most {bodies.IDS_AT_ONCE} ids", field="ids")
    found = await backends.accounts.profiles(ids)
    return [found[user] for user in ids if user in found]


async def _profile(user: UserId, backends: Backends) -> Profile:
    found = await backends.accounts.profiles([user])
    if user not in found:
        raise Refused("unknown_user", "no such user", field="user")
    return found[user]


def _public(profile: Profile) -> bodies.PublicProfile:
    return bodies.PublicProfile(
        user=str(profile.user), user_name=profile.user_name, display_name=profile.display_name, version=str(profile.version)
    )


# ---- doors -------------------------------------------------------------------------------------------------------------------------------


async def _register(asked: Asked) -> bodies.OwnProfile:
    return own_profile(await register(asked.body, asked.backends))


async def _me(asked: Asked) -> bodies.OwnProfile:
    return own_profile(await _profile(asked.claims.user, asked.backends))


async def _change_me(asked: Asked) -> bodies.OwnProfile:
    return own_profile(await change_profile(asked.claims.user, asked.body, asked.backends))


async def _change_password(asked: Asked) -> bodies.PasswordChanged:
    login = await change_password(asked.claims, asked.body, asked.backends, now_ms=asked.now_ms)
    return bodies.PasswordChanged(**own_profile(login.profile).model_dump() | devices.tokens_of(login, asked.backends))


async def _users(asked: Asked) -> bodies.Users:
    return bodies.Users(users=[_public(profile) for profile in await find_users(asked.query, asked.backends)])


async def _user(asked: Asked) -> bodies.PublicProfile:
    return _public(await _profile(parse_user(asked.path["user"], name="user"), asked.backends))


DOORS: Final[dict[calls.Call, Door]] = {
    calls.REGISTER: _register,
    calls.ME: _me,
    calls.CHANGE_ME: _change_me,
    calls.CHANGE_PASSWORD: _change_password,
    calls.USERS: _users,
    calls.USER: _user,
    **devices.DOORS,
    **documents.DOORS,
}


@functions_framework.aio.http
async def accounts(request: Request) -> Response:
    """Target: everything about people and their devices, and the documents of all calls."""
    return await answer(request, DOORS)
