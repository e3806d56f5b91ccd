"""What follows of the configuration for the functions: from the next call or command on."""

from __future__ import annotations

import pytest

from backends.settings import Settings
from schemas.errors import Unavailable
from schemas.topics import DELIVERIES
from tests.functions.callers import Caller, problem
from tests.support.configured import configure

FAR_MS = 86_400_000
PLENTY = 10**9


@pytest.fixture
def settings(tmp_path):
    """Budgets that are as good as none."""
    return Settings(data=tmp_path, user_units=PLENTY, user_units_per_s=PLENTY, device_units=PLENTY)


async def test_budgets_follow(backends):
    """The next call is drawn from what is set now."""
    ben = await (await Caller(backends, address="192.0.2.9").register()).log_in()
    await configure(backends, "limits", user_units=3, user_units_per_s=1, device_units=2)
    codes = [(await ben.get("/v1/me")).status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]

    await configure(backends, "limits")
    assert (await ben.get("/v1/me")).status_code == 200


async def test_registrations_of_an_address_follow(backends):
    """Each costs as many units as a hash."""
    await configure(backends, "limits", logins_per_minute=1)
    stranger = Caller(backends, address="192.0.2.8")
    await stranger.register()

    refused = await stranger.call(
        "POST", "/v1/users", {"user_name": "another", "password": "correct horse"}
    )
    assert problem(refused)[:2] == (429, "rate_limited")


async def test_wrong_passwords_follow(ann, backends):
    """So many a minute, before they are slowed down."""
    await configure(backends, "limits", failed_logins_per_minute=2)
    body = {"user_name": ann.name, "password": "wrong password", "device": "other"}
    stranger = Caller(backends, address="192.0.2.7")
    codes = [(await stranger.call("POST", "/v1/sessions", body)).status_code for _ in range(4)]

    assert codes == [401, 401, 429, 429]


async def test_drafts_and_groups_follow(ann, backends):
    """Text sizes, and how large a group becomes."""
    await configure(backends, "messages", text_bytes=5)
    path = f"/v1/chats/d-{ann.user}-{ann.user}/mine"
    draft = await ann.call("PUT", path, {"version": "0", "draft": "123456"})
    assert problem(draft) == (413, "too_large", "draft")
    assert (await ann.call("PUT", path, {"version": "0", "draft": "12345"})).status_code == 200

    ben = await Caller(backends, address="192.0.2.6").register()
    await configure(backends, "groups", members=1)
    new = {"key": "k", "name": "Walks", "members": [ben.user]}
    assert problem(await ann.call("POST", "/v1/chats", new)) == (409, "too_many", "members")
    await configure(backends, "groups", members=2)
    assert (await ann.call("POST", "/v1/chats", new)).status_code == 201


async def test_file_sizes_follow(ann, backends):
    """How large a file may be, and how many a user keeps."""
    body = {"name": "a.txt", "bytes": 6, "type": "text/plain", "purpose": "message"}
    await configure(backends, "files", file_bytes=5)
    assert problem(await ann.call("POST", "/v1/files", body)) == (413, "too_large", "bytes")
    await configure(backends, "files", user_files=1)
    assert (await ann.call("POST", "/v1/files", body)).status_code == 201
    assert problem(await ann.call("POST", "/v1/files", body)) == (409, "too_many", "bytes")


async def test_the_life_of_log_ins_follows(ann, backends, monkeypatch):
    """Also of those that have begun."""
    later_ms = backends.clock.now_ms() + 3 * FAR_MS
    await configure(backends, "retention", log_in_idle_days=2)
    monkeypatch.setattr(backends.clock, "now_ms", lambda: later_ms)

    assert (await ann.renew()).status_code == 401


async def test_receipts_are_told_to_no_other_user(people, backends, event_targets, topics):
    """The user's own devices hear of them, and unread counts go on."""
    await configure(backends, "signals", receipts=False)
    mark = event_targets.mark(read=5)
    assert (await event_targets.post("send", [mark])).status == 200
    told = [one for one in await topics.items(DELIVERIES) if one.HasField("receipt")]

    assert [list(one.users) for one in told] == [[event_targets.BOB]]


async def test_receipts_are_shown_to_no_other_user(people, ann, backends):
    """The list of a chat has the caller's own."""
    ben = await (await Caller(backends, address="192.0.2.6").register()).log_in()
    lower, higher = sorted((int(ann.user), int(ben.user)))
    path = f"/v1/chats/d-{lower}-{higher}/receipts"
    both = {one["user"] for one in (await ann.get(path)).json()["receipts"]}
    await configure(backends, "signals", receipts=False)
    own = {one["user"] for one in (await ann.get(path)).json()["receipts"]}

    assert (both, own) == ({ann.user, ben.user}, {ann.user})


async def test_a_start_without_the_database_goes_by_the_settings(backends, event_targets):
    """A mark is decided when the database is back; messages wait for no configuration."""
    asked = []

    class Unreachable:
        async def versions(self):
            asked.append(1)
            raise Unavailable("the database does not answer")

    backends.stored_configuration = Unreachable()
    for _ in range(3):
        await event_targets.post("send", [event_targets.text()])
    assert asked == []
    for _ in range(3):
        await event_targets.post("send", [event_targets.mark(read=5)])
    assert asked == [1]
    assert backends.configuration.values == backends.configuration.defaults
