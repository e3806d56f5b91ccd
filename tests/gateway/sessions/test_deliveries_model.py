"""The screens of two users against the whole log, whatever happens."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.kinds.message import Message
from tests.gateway.pushes import ANN, BEN, message
from tests.gateway.wire import NOW_MS, NOW_S, connect, made_context


class Deliveries(RuleBasedStateMachine):
    """The screens of two users against the whole log, over slow peers, cuts, resumes and a replay
    buffer that forgets.

    Whatever happens, a device sees its user's deliveries without hole or repetition from its last
    cursor on, or is told so.
    """

    def __init__(self):
        super().__init__()
        self.now_s = NOW_S
        self.log = []
        self.devices = {}

    @initialize()
    def begin(self):
        self.at = made_context(limit_bytes=30_000, kept_s=100)
        self.offset = 100

    @rule(
        receivers=st.lists(st.lists(st.sampled_from((ANN, BEN)), unique=True), max_size=3),
        size=st.integers(0, 2_000),
    )
    def deliver(self, receivers, size):
        deliveries = [
            message(self.offset * 10 + index, users, text="x" * size)
            for index, users in enumerate(receivers)
        ]
        self.log += [((self.offset, index), each) for index, each in enumerate(deliveries)]
        self.at.feed.deliver(0, self.offset, self._now_ms(), deliveries)
        self.offset += 1

    @rule(user=st.sampled_from((ANN, BEN)), device=st.sampled_from(("phone", "tablet")))
    def connect(self, user, device):
        self._look(user, device)
        old = self.devices.get((user, device))
        connection, wire = connect(
            self.at, user, device, resume=old and old["cursor"], now_s=self.now_s
        )
        place = self.at.feed.place(0, old and old["cursor"], NOW_MS)[0] if old else "new"
        fresh = old is None or place == "reset"
        begin = tuple(int(part) for part in old["cursor"].split(".")[2:]) if not fresh else None
        self.devices[user, device] = {
            "connection": connection,
            "wire": wire,
            "cursor": old["cursor"] if old and not fresh else f"epoch-1.0.{self.offset}.0",
            "next": begin,
            "n": 0,
        }

    @rule(user=st.sampled_from((ANN, BEN)), device=st.sampled_from(("phone", "tablet")))
    def cut(self, user, device):
        if (user, device) in self.devices:
            self._look(user, device)
            self.at.hub.remove(self.devices[user, device]["connection"])

    @rule(
        user=st.sampled_from((ANN, BEN)),
        device=st.sampled_from(("phone", "tablet")),
        slow=st.booleans(),
    )
    def slow_down(self, user, device, slow):
        held = self.devices.get((user, device))
        if held is not None and held["wire"].congested is not slow:
            held["wire"].congested = slow
            held["wire"].buffered_bytes = 0
            if not slow:
                held["connection"].on_writable()

    @rule(seconds=st.integers(0, 20))
    def wait(self, seconds):
        self.now_s += seconds
        for held in self.devices.values():
            held["connection"].session.on_activity(self.now_s)
        self.at.run_timers(self.now_s)
        self.at.forget(self.now_s, self._now_ms())

    def _now_ms(self):
        return NOW_MS + round((self.now_s - NOW_S) * 1_000)

    @invariant()
    def each_sees_what_the_log_holds(self):
        for user, device in self.devices:
            self._look(user, device)

    def _look(self, user, device):
        held = self.devices.get((user, device))
        if held is None:
            return
        for frame in held["wire"].take():
            if isinstance(frame, Message):
                held["n"] += 1
                assert frame.n == held["n"]
                expected = [
                    (place, each)
                    for place, each in self.log
                    if user in each.users and (held["next"] is None or place >= held["next"])
                ]
                place = next(
                    place for place, each in self.log if str(each.message.id) == frame.message
                )
                if held["next"] is not None:
                    assert expected[0][0] == place
                held["next"] = (place[0], place[1] + 1)
                held["cursor"] = frame.cursor
        connection = held["connection"]
        live = connection in self.at.hub._connections and connection.position is None
        if live and held["next"] is not None:
            assert not [
                place for place, each in self.log if user in each.users and place >= held["next"]
            ]


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
