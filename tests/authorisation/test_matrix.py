"""Who may do what: every call and frame, asked by everyone who may not and those who may.

A refusal tells no secret, changes nothing, and is the same whether the thing exists or not.
"""

from __future__ import annotations

import itertools

import pytest
import uvloop

from tests.authorisation.table import CALLS, FRAMES, HELLO, checks
from tests.authorisation.world import World
from tests.support.pages import split

PAGE = "docs/protocol.md"
CHECKS = list(checks())


@pytest.fixture(scope="module")
def loop():
    """One for the product and all that ask it."""
    made = uvloop.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, loop):
    """The people of the table."""
    made = World(tmp_path_factory.mktemp("world"))
    loop.run_until_complete(made.start())
    yield made
    loop.run_until_complete(made.stop())


def _leaked(world, text, user):
    """The secrets in a text that this user may not see."""
    return [
        secret for secret, whose in world.secrets.items() if secret in text and user not in whose
    ]


def test_the_table_has_every_call_and_frame_that_is_served():
    """By their names on the page."""
    assert {row.name for row in CALLS} == set(split(PAGE, "1. HTTP (functions)")[0])
    assert {row.name for row in FRAMES} | {HELLO} == set(split(PAGE, "Client to server")[0])


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_each_gets_what_the_table_says(world, loop, check):
    """The good answer or the code; no secret of others in it; what is refused has changed nothing
    of the owner's.
    """
    answer = loop.run_until_complete(world.ask(check))

    assert answer.code == check.code, answer
    user, said = check.actor.user if check.actor.is_known else "", answer.text
    if check.operation.names == "avatar file":  # who names it knows it
        said = said.replace(world.id_of(check.target), "")
    assert not _leaked(world, said, user), answer
    if check.code and check.operation.writes:
        assert loop.run_until_complete(world.state()) == world.before


def _sort(check):
    """What is asked by whom, and must come: alike, whatever it names."""
    return check.operation.name, check.operation.names, check.actor.name, check.code


@pytest.mark.parametrize(
    "alike",
    [
        group
        for _, found in itertools.groupby(
            sorted(
                (check for check in CHECKS if check.code),
                key=_sort,
            ),
            key=_sort,
        )
        if len(group := list(found)) > 1
    ],
    ids=lambda group: str(group[0]),
)
def test_what_exists_and_what_does_not_look_alike(world, loop, alike):
    """The whole answers are the same, for all that the actor may not have."""
    answers = [loop.run_until_complete(world.ask(check)) for check in alike]

    assert all(answer == answers[0] for answer in answers), answers


def test_wrong_names_and_wrong_passwords_look_alike(world, loop):
    """Who exists is not told by a log-in, and which refresh token was one not by a refresh."""
    body = {"password": "not the password", "device": "x"}
    log_ins = [
        loop.run_until_complete(
            world.product.http.post("/v1/sessions", json={**body, "user_name": name})
        )
        for name in (world._names["ann"], "no-such-name-at-all")
    ]
    tokens = [
        loop.run_until_complete(
            world.product.http.post("/v1/tokens", json={"refresh_token": token})
        )
        for token in (world._ended, f"{world._ended[:-4]}AAAA")
    ]

    for answers in (log_ins, tokens):
        assert [answer.status_code for answer in answers] == [401] * len(answers)
        assert len({answer.text for answer in answers}) == 1, [each.text for each in answers]


@pytest.mark.parametrize(("actor", "user"), [("stranger", "dan"), ("other", "ben")])
def test_a_cursor_of_another_user_leads_to_nothing_of_theirs(world, loop, actor, user):
    """It is a place in the log; what is pushed from there is the caller's own."""
    cursor = loop.run_until_complete(world.cursor("self"))

    result, pushed = loop.run_until_complete(world.pushed(actor, cursor))

    assert result in {"reset", "resumed"}
    assert not _leaked(world, str(pushed), user), pushed


def test_all_is_as_it_was_in_the_end(world, loop):
    """All of the owner's, after everything that was asked above."""
    assert loop.run_until_complete(world.shown()) == world.before
