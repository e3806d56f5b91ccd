"""Configuration over HTTP: who may, what is shown and set, and what is refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from backends.settings import Settings
from functions.runtime.openapi import described_endpoints
from schemas import tokens
from schemas.configuration import SECTIONS
from tests.functions.callers import Caller, problem
from tests.support.configuration_mistakes import mistakes
from tests.support.configured import configure

CALLS = [call for call in described_endpoints() if call.for_administrators]
PLENTY = 10**9


@pytest.fixture
def settings(tmp_path):
    """Budgets that are as good as none."""
    return Settings(data=tmp_path, user_units=PLENTY, user_units_per_s=PLENTY, device_units=PLENTY)


@pytest.fixture
async def admin(ann, backends):
    """Ann, who has become an administrator and has a token that says so."""
    await backends.administrators.grant(int(ann.user), now_ms=1)
    ann.login = (await ann.renew()).json()
    return ann


async def put(caller, section, version=0, **values):
    body = {"version": str(version), "values": values}
    return await caller.call("PUT", f"/v1/config/{section}", body)


def shown(answer):
    """The values of a section."""
    assert answer.status_code == 200, answer.text
    return {field["name"]: field["value"] for field in answer.json()["fields"]}


# ---- who may -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
async def test_only_administrators_may(call, ann, backends):
    """The claim is in the token from the next one on; who was revoked is refused at once."""
    path, body = call.path.replace("{section}", "limits"), None
    if call.method == "PUT":
        body = {"version": "0", "values": {}}
    assert problem(await ann.call(call.method, path, body))[:2] == (403, "forbidden")

    await backends.administrators.grant(int(ann.user), now_ms=1)
    assert problem(await ann.call(call.method, path, body))[:2] == (403, "forbidden")
    ann.login = (await ann.renew()).json()
    assert (await ann.call(call.method, path, body)).status_code == 200

    await backends.administrators.revoke(int(ann.user))
    assert problem(await ann.call(call.method, path, body))[:2] == (403, "forbidden")
    ann.login = {}
    assert problem(await ann.call(call.method, path, body))[:2] == (401, "unauthorized")


def test_there_are_calls_for_administrators():
    """They say so in the document."""
    assert {call.name for call in CALLS} == {
        "GET /v1/config",
        "GET /v1/config/{section}",
        "PUT /v1/config/{section}",
        "GET /v1/config/{section}/history",
    }
    assert all("For administrators." in call.summary for call in CALLS)


async def test_a_token_of_no_administrator_is_as_it_was(ann, backends):
    """Nothing is added to the tokens of all others."""
    key = backends.signing_key.public_keys()
    claims = tokens.verify(ann.login["access_token"], key, backends.clock.now_s())

    assert not claims.administrator
    assert (
        tokens.sign(claims, backends.signing_key._key, next(iter(key)))
        == (ann.login["access_token"])
    )


# ---- what is shown and set -----------------------------------------------------------------------


async def test_all_sections_are_shown_with_what_they_may_be(admin):
    """As the registry has them."""
    answer = (await admin.get("/v1/config")).json()["sections"]

    assert [section["section"] for section in answer] == list(SECTIONS)
    for section in answer:
        assert section["version"] == "0"
        assert not {"author", "changed"} & set(section)
        for field in section["fields"]:
            known = SECTIONS[section["section"]].fields()[field["name"]]
            assert field["value"] == field["default"]
            assert not field["is_set"]
            assert (field.get("least"), field.get("most")) == (known.least, known.most)
            assert field.get("choices") == ([*known.choices] or None)
            assert (field["unit"], field["meaning"]) == (known.unit, known.meaning)
    alone = await admin.get("/v1/config/groups")
    assert alone.json() == next(one for one in answer if one["section"] == "groups")


async def test_a_change_is_shown_with_its_author(admin, backends):
    """Fields that are left out, or null, have their defaults."""
    changed = await put(admin, "messages", text_bytes=100, pins=None)
    section = changed.json()

    assert shown(changed)["text_bytes"] == 100
    assert (section["version"], section["author"]) == ("1", admin.user)
    assert {field["name"] for field in section["fields"] if field["is_set"]} == {"text_bytes"}
    assert (await admin.get("/v1/config/messages")).json() == section
    assert backends.configuration.values.messages.text_bytes == 100
    again = await put(admin, "messages", 1, pins=7)
    assert shown(again)["text_bytes"] == 4_096
    assert shown(again)["pins"] == 7


async def test_a_change_by_an_old_version_is_stale(admin, backends):
    """Of two at once one is first."""
    both = await asyncio.gather(
        put(admin, "messages", text_bytes=1), put(admin, "messages", text_bytes=2)
    )

    assert sorted(answer.status_code for answer in both) == [200, 409]
    for version in (0, 2, 9, 2**63 - 2, 2**63 - 1):
        answer = await put(admin, "messages", version, text_bytes=3)
        assert problem(answer) == (409, "stale", "version")
    assert backends.configuration.values.messages.text_bytes in {1, 2}


async def test_the_history_says_who_changed_what(admin, backends):
    """Newest first, part by part."""
    for version in range(3):
        await put(admin, "messages", version, text_bytes=100 + version)
    ben = await (await Caller(backends).register()).log_in()
    await backends.administrators.grant(int(ben.user), now_ms=1)
    ben.login = (await ben.renew()).json()
    await put(ben, "messages", 3)
    first = (await admin.get("/v1/config/messages/history", limit=3)).json()
    rest = (await admin.get("/v1/config/messages/history", before=first["before"])).json()

    told = [(one["version"], one["author"], one["values"]) for one in first["revisions"]]
    assert told == [
        ("4", ben.user, {}),
        ("3", admin.user, {"text_bytes": 102}),
        ("2", admin.user, {"text_bytes": 101}),
    ]
    assert [one["values"] for one in rest["revisions"]] == [{"text_bytes": 100}]
    assert "before" not in rest
    assert all(one["changed"].endswith("Z") for one in first["revisions"])
    wrong = await admin.get("/v1/config/messages/history", limit=101)
    assert problem(wrong) == (400, "malformed", "limit")


@pytest.mark.parametrize("path", ["", "/history"])
async def test_an_unknown_section_is_not_found(admin, path):
    """With the names of those that there are."""
    answer = await admin.get(f"/v1/config/nothing{path}")

    assert problem(answer) == (404, "not_found", "section")
    assert all(name in answer.json()["message"] for name in SECTIONS)


# ---- what is refused -----------------------------------------------------------------------------


async def test_wrong_configurations_are_refused_naming_the_field(admin, backends):
    """400 and more of them, one by one: what is stored and what holds stay as they are."""
    await put(admin, "messages", text_bytes=100)
    before, values = await backends.stored_configuration.newest(), backends.configuration.values
    refused = 0
    for mistake in mistakes():
        version = 1 if mistake.section == "messages" else 0
        body = json.dumps({"version": str(version), "values": mistake.values})
        answer = await admin.call(
            "PUT",
            f"/v1/config/{mistake.section}",
            content=body,
            headers={"content-type": "application/json"},
        )
        assert problem(answer) == (400, "malformed", f"values.{mistake.field}"), mistake
        refused += 1

    assert refused >= 400
    assert await backends.stored_configuration.newest() == before
    await backends.configuration.refresh()
    assert backends.configuration.values == values


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "version"),
        ('{"version": "0"}', "values"),
        ('{"version": 0, "values": {}}', "version"),
        ('{"version": "x", "values": {}}', "version"),
        ('{"version": "0", "values": []}', "values"),
        ('{"version": "0", "values": {"text_bytes": 1, "text_bytes": 2}}', "body"),
        ('{"version": "0", "values": {"text_bytes": NaN}}', "values.text_bytes"),
        ('{"version": "0", "values": {"text_bytes": Infinity}}', "values.text_bytes"),
        ('{"version": "0", "values": {"text_bytes": 1e999}}', "values.text_bytes"),
        ('{"version": "0", "values": {"text_bytes": 1' + "0" * 4_400 + "}}", "values.text_bytes"),
        ("[]", "body"),
        ("", "body"),
    ],
)
async def test_wrong_bodies_are_refused(admin, backends, body, field):
    """Before any value is looked at, or at it."""
    answer = await admin.call(
        "PUT",
        "/v1/config/messages",
        content=body,
        headers={"content-type": "application/json"},
    )

    assert problem(answer)[:2] == (400, "malformed")
    assert problem(answer)[2] in {field, "body"}
    assert await backends.stored_configuration.newest() == {}


async def test_what_another_version_has_stored_is_shown_as_it_holds(admin, backends):
    """A value that this version refuses is not in force, and one that it does not know is not
    shown.
    """
    await configure(backends, "messages", text_bytes=10**9, colours=3)
    section = await admin.get("/v1/config/messages")

    assert shown(section)["text_bytes"] == 4_096
    assert "colours" not in shown(section)
    assert section.json()["version"] == "1"
    assert shown(await put(admin, "messages", 1, text_bytes=9))["text_bytes"] == 9
