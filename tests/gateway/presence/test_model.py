"""Whatever happens: in the end each session was told last how each user that it watches is."""

import random

import pytest

from schemas.kinds.presence import Presence

USERS = range(1, 7)
DEVICES = ("phone", "desk")
STATES = ("online", "away", "busy", "invisible")
STEPS = 120


class World:
    """Users with devices at one gateway, and what is true of them."""

    def __init__(self, here, seed):
        self.here, self.chance = here, random.Random(seed)  # noqa: S311 - steps of a test
        self.sessions = {}
        """User and device -> connection, wire, whom it watches, what it was told last."""
        self.declared = {}

    def step(self):
        """One step of one device."""
        name = self.chance.choice(USERS), self.chance.choice(DEVICES)
        if name not in self.sessions:
            if self.chance.random() < 0.5:
                self.come(name)
            return
        connection, _, watched, last = self.sessions[name]
        match self.chance.randrange(8):
            case 0:
                self.here.at.hub.remove(connection)
                del self.sessions[name]
            case 1 | 2:
                users = self.chance.sample(USERS, 3)
                frame = {"type": "watch", "users": [str(user) for user in users]}
                self.here.say(connection, frame)
                watched.update(users)
            case 3:
                users = self.chance.sample(USERS, 2)
                frame = {"type": "unwatch", "users": [str(user) for user in users]}
                self.here.say(connection, frame)
                watched.difference_update(users)
                for user in users:
                    last.pop(user, None)
            case 4:
                self.come(name)  # the older one is replaced
            case _:
                self.declared[name[0]] = state = self.chance.choice(STATES)
                self.here.say(connection, {"type": "presence", "state": state})

    def come(self, name):
        """A device connects."""
        connection, wire = self.here.connect(*name)
        self.sessions[name] = connection, wire, set(), {}

    def hear(self):
        """What each was told: of users whom it watches alone."""
        for _, wire, watched, last in self.sessions.values():
            for frame in wire.take():
                if isinstance(frame, Presence):
                    assert int(frame.user) in watched
                    last[int(frame.user)] = frame.state

    def state_of(self, user):
        """How a user is, if nothing happens for long enough, but not for five minutes."""
        if not any((user, device) in self.sessions for device in DEVICES):
            return "offline"
        declared = self.declared.get(user, "online")
        return "offline" if declared == "invisible" else declared


@pytest.mark.parametrize("seed", range(12))
async def test_the_last_word_is_how_it_is(here, seed):
    """After any steps, with pauses shorter and longer than a flap."""
    world = World(here, seed)
    for _ in range(STEPS):
        world.step()
        if world.chance.random() < 0.3:
            await here.passes(world.chance.choice((0.25, 1, 4)))
        world.hear()
    await here.passes(25)
    world.hear()

    for _, _, watched, last in world.sessions.values():
        assert last == {user: world.state_of(user) for user in watched}
    assert world.sessions
