"""Much small work leaves room for everything else, in order."""

import pytest

from gateway.turns import TURN_S, Turns


class Loop:
    """An event loop of the test's: calls wait until it turns, and time is what they take."""

    def __init__(self):
        self.now_s = 0.0
        self.waiting = []

    def call_soon(self, call):
        self.waiting.append(call)

    def turn(self):
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()
        return len(waiting)


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def turns(loop):
    return Turns(loop.call_soon, lambda: loop.now_s)


def work(loop, done, number, *, takes_s):
    def call():
        loop.now_s += takes_s
        done.append(number)

    return call


def test_so_much_is_done_in_a_turn_in_order(loop, turns):
    done = []
    for number in range(100):
        turns.call(work(loop, done, number, takes_s=TURN_S / 4))

    assert loop.turn() == 1
    assert done == [*range(4)]
    while loop.turn():
        pass
    assert done == [*range(100)]
    assert loop.now_s == pytest.approx(25 * TURN_S)


def test_one_call_is_done_however_long_it_takes(loop, turns):
    done = []
    for number in range(3):
        turns.call(work(loop, done, number, takes_s=10 * TURN_S))
    for turned in range(1, 4):
        loop.turn()
        assert len(done) == turned
    assert loop.waiting == []


def test_what_a_call_asks_for_comes_behind_the_others(loop, turns):
    """In the same row of turns: there is never more than one."""
    done = []
    turns.call(lambda: turns.call(lambda: done.append("asked for later")))
    turns.call(lambda: done.append("asked for before"))
    while loop.waiting:
        assert len(loop.waiting) == 1
        loop.turn()

    assert done == ["asked for before", "asked for later"]


def test_a_failure_is_logged_and_the_others_go_on(loop, turns, caplog):
    done = []
    turns.call(lambda: 1 / 0)
    turns.call(lambda: done.append("the next"))
    loop.turn()

    assert done == ["the next"]
    assert "work of a turn failed" in caplog.text
    turns.call(lambda: done.append("later"))
    loop.turn()
    assert done == ["the next", "later"]
