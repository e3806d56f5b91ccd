"""Names and settings of people: whatever script they are written in, none hides its owner or breaks
what is shown beside it.
"""

from __future__ import annotations

import pytest

from tests.functions.callers import PASSWORD, Caller, problem

JOSE = "Jose\u0301"


async def test_a_name_is_found_however_its_accents_are_written(ann, backends):
    """Both are composed: what is stored, and what is searched for."""
    await ann.call("PATCH", "/v1/me", {"version": "1", "display_name": JOSE})
    await Caller(backends).register("jose2", display_name="Jos\u00e9 the second")

    for text in (JOSE, "jos\u00e9", "JOSE\u0301"):
        found = (await ann.get("/v1/users", search=text)).json()["users"]
        assert [user["user_name"] for user in found] == ["ann", "jose2"]
    assert (await ann.get("/v1/me")).json()["display_name"] == "Jos\u00e9"


@pytest.mark.parametrize(
    "name",
    [
        " ",
        "\u3000\u00a0",
        "\u200b",
        "\u3164",
        "\u2800\ufe0f",
        "\u0301",
        "\u200d",
        "Ann\u202egnp",
        "\u2066Ann\u2069",
        "Ann\u200f",
        "a\u200d",
        "\u200cab",
        "a \u200d b",
        "a\u200d\u200db",
        "a\u2028b",
        "\U000e0041",
    ],
)
async def test_names_that_show_nothing_or_turn_the_text_are_refused(ann, name):
    """No two users can be told apart by them, or they change how the line after them reads."""
    assert problem(await ann.call("PATCH", "/v1/me", {"version": "1", "display_name": name})) == (
        400,
        "malformed",
        "display_name",
    )
    assert (
        problem(
            await ann.call(
                "POST",
                "/v1/users",
                {"user_name": "ben", "password": PASSWORD, "display_name": name},
            )
        )[0]
        == 400
    )


@pytest.mark.parametrize(
    "name",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a joiner that separates
        "\u0915\u094d\u200d\u0937",  # Devanagari, joined after a mark
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u2764\ufe0f\u200d\U0001f525",  # a heart on fire
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # a flag, by tags
        "Anna-Lena O\u2019Neill 2.",
        "\u05d3\u05d5\u05d3",  # Hebrew, which needs no sign to run from the right
    ],
)
async def test_names_of_all_scripts_stay(ann, name):
    """With the joiners that belong to them."""
    answer = await ann.call("PATCH", "/v1/me", {"version": "1", "display_name": name})

    assert (answer.status_code, answer.json()["display_name"]) == (200, name)


async def test_settings_hold_any_text_but_nul(ann):
    """A pattern about U+0000 is none; the character itself is, however many backslashes stand
    before it.
    """
    kept = {"pattern": "[^\\u0000-\\u007f]", "\\\\u0000": "\\\\\\u0000"}
    answer = await ann.call("PATCH", "/v1/me", {"version": "1", "settings": kept})
    refused = [
        await ann.call("PATCH", "/v1/me", {"version": "2", "settings": settings})
        for settings in ({"x": "\0"}, {"x": "\\\0"}, {"\0": 1}, {"x": [{"y": "a\\\\\0"}]})
    ]

    assert (answer.status_code, answer.json()["settings"]) == (200, kept)
    assert {problem(one) for one in refused} == {(400, "malformed", "settings")}
