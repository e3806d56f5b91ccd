"""What sessions are told, where there is more of it than is dealt with in one go."""

from collections import deque

from gateway.presence.visibility import Visibility
from gateway.presence.watchers import MAX_WATCHED, Watchers
from schemas import chat_pb2 as pb
from tests.gateway.presence.heard import ANN, told
from tests.gateway.wire import NOW_S, connect, made_context


class Owners:
    """Asked, they say nothing."""

    def watch(self, partition, users):
        pass


def test_a_newer_answer_does_not_overtake_the_rest_of_an_older_one():
    """Of the last of many, who has left meanwhile."""
    waiting = deque()
    watchers = Watchers(
        Owners(),
        partitions=1,
        call_soon=waiting.append,
        on_unchecked=lambda: None,
        renew_s=60,
    )
    connection, wire = connect(made_context(), ANN)
    users = [*range(100, 100 + MAX_WATCHED)]
    watchers.watch(connection, users, NOW_S)
    for watcher, pairs in watchers.to_check():
        watchers.on_checked(watcher, pairs, [Visibility.ALL] * len(pairs))
    wire.take()

    watchers.on_presences([pb.Presence(user=user, state="online") for user in users], NOW_S)
    watchers.on_presences([pb.Presence(user=users[-1], state="offline")], NOW_S)
    while waiting:
        waiting.popleft()()
    for second in range(3):
        watchers.tick(NOW_S + second)

    states = dict(told(wire))
    assert len(states) == MAX_WATCHED
    assert states.pop(users[-1]) == "offline"
    assert {*states.values()} == {"online"}
