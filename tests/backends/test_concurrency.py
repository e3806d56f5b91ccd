"""Back-off, the bounded dictionary and stopping by signals, against what they promise."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import OrderedDict
from functools import partial
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backends.concurrency import Backoff, BoundedDict, jittered, watch_signals

ROOT = Path(__file__).parents[2]
SHARES = st.floats(0, 1)
SECONDS = st.floats(1e-3, 1e6)


# ---- back-off ------------------------------------------------------------------------------------


@given(seconds=st.floats(0, 1e9), least=SHARES)
def test_a_jittered_wait_is_a_share_of_it(seconds, least):
    """From `least` of it up to all of it."""
    assert seconds * least <= jittered(seconds, least=least) <= seconds


@given(first_s=SECONDS, max_s=SECONDS, least=SHARES, failures=st.integers(0, 10**6))
@example(first_s=0.1, max_s=5.0, least=0.5, failures=2**63)
def test_waits_double_up_to_the_longest(first_s, max_s, least, failures):
    """However often a try has failed, no wait is longer than `max_s`, and none shorter than its
    least share.
    """
    whole_s = min(max_s, first_s * 2.0 ** min(failures, 1_000))
    delay_s = Backoff(first_s, max_s, least).delay_s(failures)

    assert whole_s * least * (1 - 1e-9) <= delay_s <= whole_s


@given(first_s=SECONDS, max_s=SECONDS, failures=st.integers(0, 100))
def test_without_jitter_the_waits_never_fall_and_begin_again_with_the_first(
    first_s, max_s, failures
):
    """The schedule has no state: who counts from 0 again waits as at first."""
    backoff = Backoff(first_s, max_s, least=1.0)

    assert backoff.delay_s(failures) <= backoff.delay_s(failures + 1)
    assert backoff.delay_s(0) == min(first_s, max_s)


def test_waits_after_the_same_failure_differ():
    """What failed together does not come back together."""
    waits = {Backoff(1.0, 8.0, least=0.0).delay_s(2) for _ in range(100)}

    assert len(waits) > 90
    assert min(waits) < 1.0
    assert 3.0 < max(waits) <= 4.0


# ---- the bounded dictionary ----------------------------------------------------------------------

KEYS = st.integers(0, 12)


class Bounded(RuleBasedStateMachine):
    """Beside a list of pairs, the oldest first, which is cut by hand."""

    @initialize(most=st.integers(1, 8))
    def begin(self, most):
        self.most, self.real, self.pairs = most, BoundedDict(most), []

    def _model(self, key, value):
        places = {kept: place for place, (kept, _) in enumerate(self.pairs)}
        if key in places:
            self.pairs[places[key]] = key, value
        else:
            self.pairs = [*self.pairs, (key, value)][-self.most :]

    @rule(key=KEYS, value=st.integers())
    def put(self, key, value):
        self.real[key] = value
        self._model(key, value)

    @rule(key=KEYS, value=st.integers())
    def put_unless_there(self, key, value):
        self.real.setdefault(key, value)
        if key not in dict(self.pairs):
            self._model(key, value)

    @rule(many=st.dictionaries(KEYS, st.integers(), max_size=12), in_place=st.booleans())
    def put_many(self, many, in_place):
        if in_place:
            self.real |= many
        else:
            self.real.update(many)
        for key, value in many.items():
            self._model(key, value)

    @rule(key=KEYS)
    def make_newest(self, key):
        if key in self.real:
            self.real.move_to_end(key)
        self.pairs.sort(key=lambda pair: pair[0] == key)

    @rule(key=KEYS)
    def take_out(self, key):
        assert self.real.pop(key, None) == dict(self.pairs).get(key)
        self.pairs = [pair for pair in self.pairs if pair[0] != key]

    @rule()
    def clear(self):
        self.real.clear()
        self.pairs = []

    @invariant()
    def are_the_same(self):
        assert list(self.real.items()) == self.pairs
        assert len(self.real) <= self.most


TestBounded = Bounded.TestCase


def test_it_equals_a_dictionary_with_the_same_entries():
    """It is a dictionary, and reads as one."""
    bounded = BoundedDict[str, int](2)
    bounded |= {"a": 1, "b": 2, "c": 3}

    assert bounded == {"b": 2, "c": 3} == OrderedDict(bounded)
    assert (bounded.get("a"), bounded.get("b"), bounded.get("d", 7)) == (None, 2, 7)


# ---- signals -------------------------------------------------------------------------------------

STUBBORN = """
import asyncio
from backends.concurrency import watch_signals

async def main():
    stopping = watch_signals(on_stop=lambda: print("told", flush=True))
    print("ready", flush=True)
    await stopping.wait()
    print("stopping", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_signal_sets_the_event_once():
    """SIGTERM and SIGINT alike; nothing is called before."""
    told = []
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in kept:
            stopping = watch_signals(on_stop=partial(told.append, number))
            assert not stopping.is_set()
            os.kill(os.getpid(), number)
            await asyncio.wait_for(stopping.wait(), 5)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

    assert told == [signal.SIGINT, signal.SIGTERM]


def test_a_second_signal_ends_the_process_at_once():
    """Also Ctrl-C, which asyncio would make an exception in whatever runs."""
    for first, second in ((signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)):
        with subprocess.Popen(
            [sys.executable, "-c", STUBBORN], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(first)
            assert [process.stdout.readline(), process.stdout.readline()] == [
                "told\n",
                "stopping\n",
            ]
            process.send_signal(second)

            assert process.wait(10) == -second


# ---- one mechanism each --------------------------------------------------------------------------

# Each with what it is: no wait of ours.
OTHERS = {
    "backends/dispatcher/sink.py": "a disturbance that a receiver plays",
    "gateway/sessions/hub.py": "what clients are told of their return",
    "gateway/app.py": "what clients are told of their return",
    "scripts/knchat/develop/real.py": "picks free ports",
}
WRITTEN_OUT = re.compile(
    r"\brandom\.(uniform|random|randint|randrange|sample|choice)\(|\.add_signal_handler\(|\bdel "
    r"\w[\w.]*\[next\(iter\("
)


def test_no_other_file_writes_out_its_own():
    """The next loop, bounded dictionary or signal handler uses what is there."""
    rooms = ("backends", "functions", "gateway", "schemas", "scripts/knchat")
    found = {
        str(path.relative_to(ROOT))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if WRITTEN_OUT.search(path.read_text())
    }

    assert found - OTHERS.keys() == {"backends/concurrency.py"}
