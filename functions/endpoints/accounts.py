"""Accounts over HTTP: people register, change and find profiles.

The target serves their devices, their `relations` and `meta` too. Rules on top, endpoints below,
the target at the end. `dev` calls `register` as well, for its demonstration users.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import functions_framework.aio

from backends.accounts import Profile
from functions.domain import token_rotation
from functions.domain.ended_log_ins import refusal_of
from functions.domain.passwords import check_choice
from functions.domain.valid_tokens import is_of_log_in
from functions.endpoints import configuration, devices, meta, relations
from functions.endpoints.devices import LogIn, own_profile
from functions.runtime.context import Context
from functions.runtime.http_endpoint import Endpoint, endpoint
from functions.runtime.router import router_of
from schemas import costs, endpoints
from schemas.errors import Malformed, Refused
from schemas.ids import UserId, parse_id, parse_user, random_id
from schemas.tokens import Claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import Router

    from backends.wiring import Backends


async def register(
    body: endpoints.NewUser, context: Context, *, user: UserId | None = None
) -> Profile:
    """A new account, under a random id unless one is given. Raises Refused name_taken, Unavailable.

    With an id given, a repeat finds the account as it is now and changes nothing. Raises Malformed
    for a password that is among the commonest, or the user name.
    """
    backends = context.backends
    check_choice(body.password, body.user_name, field="password")
    password_hash = await context.passwords.hash(body.password)
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


async def change_profile(
    user: UserId, change: endpoints.ProfileChange, backends: Backends, *, now_ms: int
) -> Profile:
    """The changed profile. Raises Refused stale when the version is not the newest, and as
    `Accounts.change_profile`.
    """
    profile = await _profile(user, backends)
    given = {name: getattr(change, name) for name in change.model_fields_set if name != "version"}
    changed = replace(profile, **given, version=profile.version + 1)
    if parse_id(
        change.version, name="version"
    ) != profile.version or not await backends.accounts.change_profile(changed, now_ms=now_ms):
        raise Refused("stale", "the profile has changed since: read it again", field="version")
    return changed


async def change_password(
    claims: Claims, change: endpoints.PasswordChange, context: Context, *, now_ms: int
) -> LogIn:
    """Sets a new password and ends all log-ins in the same step; the device that asks begins a new
    one, and the others are told why theirs have ended.

    A repeat, with the token that the first try has ended, gives new tokens again: who knows the new
    password may have them. Raises Refused unauthorized when the device is logged out, suspended,
    forbidden when the old password is wrong, rate_limited, stale when another change came between;
    Malformed when the new one is among the commonest.
    """
    user, backends, passwords = claims.user, context.backends, context.passwords
    was = await backends.log_ins.device(user, claims.device)
    if was is None:
        raise await refusal_of(user, backends, "this device is logged out: log in again")
    profile = await _profile(user, backends)
    check_choice(change.new_password, profile.user_name, field="new_password")
    kept = await backends.accounts.password_hash(user)
    done = not is_of_log_in(claims, was)
    if kept is None or not await passwords.check_change(
        user, change.new_password if done else change.password, kept
    ):
        if done:
            raise Refused("unauthorized", "this device was logged out since: log in again")
        raise Refused("forbidden", "that is not your password", field="password")
    device, secret = token_rotation.new_device(
        user, claims.device, was.device_name, now_ms=now_ms, epoch=was.epoch
    )
    if done:
        begun = await backends.log_ins.begin(device)
    else:
        fresh = await passwords.hash(change.new_password)
        changed = await backends.log_ins.change_password(user, fresh, was=kept, kept=device)
        begun = None if changed is None else (changed[0], [changed[1]])
    if begun is None:
        raise Refused("stale", "the password has just been changed", field="password")
    device, told = begun
    await devices.publish_ended(told, context, why="log_in" if done else "password")
    await devices.accept_tokens(device, backends)
    return LogIn(device, profile, token_rotation.text_of(device, secret))


async def find_users(query: endpoints.UsersQuery, backends: Backends) -> Sequence[Profile]:
    """By a part of a name, by user name; or by ids, in their order, those that exist."""
    if (query.search is None) == (query.ids is None):
        raise Malformed("give search or ids", field="search")
    if query.search is not None:
        return await backends.accounts.search(query.search, limit=query.limit)
    ids = dict.fromkeys(parse_user(text, name="ids") for text in (query.ids or "").split(","))
    if len(ids) > endpoints.IDS_AT_ONCE:
        raise Malformed(f"at most {endpoints.IDS_AT_ONCE} ids", field="ids")
    found = await backends.accounts.profiles(ids)
    return [found[user] for user in ids if user in found]


async def _profile(user: UserId, backends: Backends) -> Profile:
    found = await backends.accounts.profiles([user])
    if user not in found:
        raise Refused("unknown_user", "no such user", field="user")
    return found[user]


async def _public(
    profiles: Sequence[Profile], caller: UserId, backends: Backends
) -> list[endpoints.PublicProfile]:
    """As the caller sees them: without an avatar across a block, whichever side has made it. That
    is asked only where another user shows one.
    """
    pairs = [(caller, each.user) for each in profiles if each.avatar and each.user != caller]
    between = await backends.relations.between(pairs) if pairs else {}
    hidden = {user for (_, user), relation in between.items() if relation.has_block}
    return [
        endpoints.PublicProfile(
            user=str(each.user),
            user_name=each.user_name,
            display_name=each.display_name,
            avatar=None if each.user in hidden else each.avatar or None,
            version=str(each.version),
        )
        for each in profiles
    ]


# ---- endpoints -----------------------------------------------------------------------------------


@endpoint("POST", "/v1/users", cost=costs.HASH, status=201, is_open=True, errors=("name_taken",))
async def create_user(
    body: endpoints.NewUser, context: Context, address: str
) -> endpoints.OwnProfile:
    """Registers a user."""
    with context.account_log.recorded("registered", address=address) as act:
        profile = await register(body, context)
        act.user = profile.user
    return own_profile(profile)


@endpoint("GET", "/v1/me", cost=costs.ONE)
async def get_me(caller: Claims, context: Context) -> endpoints.OwnProfile:
    """My profile."""
    return own_profile(await _profile(caller.user, context.backends))


@endpoint("PATCH", "/v1/me", cost=costs.WRITE, errors=("stale", "not_found"))
async def change_me(
    body: endpoints.ProfileChange, caller: Claims, context: Context, now_ms: int
) -> endpoints.OwnProfile:
    """Changes my profile."""
    return own_profile(await change_profile(caller.user, body, context.backends, now_ms=now_ms))


@endpoint(
    "PUT",
    "/v1/me/password",
    cost=costs.TWO_HASHES,
    accepts_ended_token=True,
    errors=("forbidden", "stale"),
)
async def set_password(
    body: endpoints.PasswordChange, caller: Claims, context: Context, now_ms: int, address: str
) -> endpoints.PasswordChanged:
    """Changes my password and ends all log-ins; this device gets new tokens."""
    recorded = context.account_log.recorded
    with recorded("password_change", address=address, user=caller.user, device=caller.device):
        login = await change_password(caller, body, context, now_ms=now_ms)
    return endpoints.PasswordChanged(
        **own_profile(login.profile).model_dump() | await devices.tokens_of(login, context.backends)
    )


@endpoint("GET", "/v1/users", cost=costs.PAGE)
async def list_users(
    query: endpoints.UsersQuery, caller: Claims, context: Context
) -> endpoints.Users:
    """Finds users."""
    found = await find_users(query, context.backends)
    return endpoints.Users(users=await _public(found, caller.user, context.backends))


@endpoint("GET", "/v1/users/{user}", cost=costs.ONE, errors=("unknown_user",))
async def get_user(user: str, caller: Claims, context: Context) -> endpoints.PublicProfile:
    """A user's public profile."""
    profile = await _profile(parse_user(user, name="user"), context.backends)
    (shown,) = await _public([profile], caller.user, context.backends)
    return shown


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    create_user,
    devices.create_session,
    devices.refresh_tokens,
    devices.end_session,
    devices.list_devices,
    devices.end_device,
    get_me,
    change_me,
    set_password,
    relations.get_privacy,
    relations.put_privacy,
    list_users,
    get_user,
    relations.list_contacts,
    relations.put_contact,
    relations.list_blocks,
    relations.block,
    relations.unblock,
    devices.get_gateway,
    configuration.list_sections,
    configuration.get_section,
    configuration.put_section,
    configuration.list_revisions,
    meta.get_keys,
    meta.get_document,
    meta.get_page,
    meta.get_asset,
)
"""In the order of the document."""
_ROUTER: Final = router_of(ENDPOINTS)


# It calls what is returned, as Starlette does; its types know responses only.
@functions_framework.aio.http  # type: ignore[arg-type]
async def accounts(_request: Request) -> Router:
    """Target: everything about people, their devices and relations, and the documents of all
    calls.
    """
    return _ROUTER
