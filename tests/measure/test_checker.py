"""The checker itself: a clean run passes, and each planted defect is found and named."""

import pytest

from measure.checker import check
from measure.record import Record
from measure.schedule import Schedule, make

RUN = "r1"
CHATS = ["d-1-2", "d-1-2"]


def _clean(slots=20):
    """A run of two clients in which everything went well: (record, plan, history)."""
    plan = Schedule(10, [row % 2 for row in range(slots)])
    record = Record(slots)
    for row in range(slots):
        record.due[row] = record.sent[row] = 1_000 + row * 100
        record.acked[row] = record.sent[row] + 10
        record.delivered[row] = record.sent[row] + 20
        record.echoed[row] = record.tries[row] = 1
        record.ids[row] = 5_000 + row
    return (
        record,
        plan,
        {"d-1-2": [(5_000 + row, f"{RUN}-{row}") for row in reversed(range(slots))]},
    )


def _verdict(record, plan, mine, theirs=None, **more):
    return check(
        record, plan, CHATS, run=RUN, mine=mine, theirs=mine if theirs is None else theirs, **more
    )


def test_a_clean_run_has_no_findings():
    """No false alarm."""
    verdict = _verdict(*_clean())

    assert verdict.good
    assert (verdict.acknowledged, verdict.delivered, verdict.examples) == (20, 20, [])


def _dropped_from_history(record, plan, mine):
    del mine["d-1-2"][3]


def _not_delivered(record, plan, mine):
    record.delivered[5] = 0


def _not_echoed(record, plan, mine):
    record.echoed[5] = 0


def _twice_in_history(record, plan, mine):
    mine["d-1-2"].insert(0, (9_000, f"{RUN}-4"))


def _two_ids(record, plan, mine):
    record.seen(4, 9_001)


def _stored_under_another_id(record, plan, mine):
    record.ids[19] = 5_020


def _ids_swapped(record, plan, mine):
    record.ids[4], record.ids[6] = record.ids[6], record.ids[4]
    mine["d-1-2"] = sorted(
        ((record.ids[row], f"{RUN}-{row}") for row in range(record.slots)), reverse=True
    )


def _history_out_of_order(record, plan, mine):
    mine["d-1-2"][2], mine["d-1-2"][3] = mine["d-1-2"][3], mine["d-1-2"][2]


def _phantom(record, plan, mine):
    record.phantoms.append("x-1")


def _refused_and_stored(record, plan, mine):
    record.refused[3] = "blocked"


def _no_answer(record, plan, mine):
    record.acked[7] = 0


@pytest.mark.parametrize(
    ("plant", "finding"),
    [
        (_dropped_from_history, "lost"),
        (_not_delivered, "lost"),
        (_not_echoed, "lost"),
        (_twice_in_history, "doubled"),
        (_two_ids, "doubled"),
        (_stored_under_another_id, "doubled"),
        (_ids_swapped, "disordered"),
        (_history_out_of_order, "disordered"),
        (_phantom, "phantoms"),
        (_refused_and_stored, "false_refusals"),
        (_no_answer, "unresolved"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_a_planted_defect_is_found_and_named(plant, finding):
    """One defect, one finding of its kind, one example that says where."""
    record, plan, mine = _clean()
    plant(record, plan, mine)

    verdict = _verdict(record, plan, mine)

    assert not verdict.good
    assert getattr(verdict, finding) == 1
    assert verdict.examples


def test_two_readers_that_see_different_histories_are_a_disorder():
    """Every read of a chat is the same list."""
    record, plan, mine = _clean()

    verdict = _verdict(record, plan, mine, {"d-1-2": mine["d-1-2"][1:]})

    assert verdict.disordered == 1


def test_after_a_reset_history_stands_for_what_a_device_would_have_shown():
    """A client that was told to reload has missed nothing if history has it."""
    record, plan, mine = _clean()
    record.delivered[5] = record.delivered[6] = 0

    assert _verdict(record, plan, mine, resets=[1, 1]).good
    assert _verdict(record, plan, mine, resets=[0, 0]).lost == 2


def test_the_schedule_is_fixed_before_the_run():
    """The same seed gives the same slots; their times do not depend on anything that happens."""
    one, two = (make(clients=10, rate=100, seconds=3, seed=7) for _ in range(2))

    assert list(one.senders) == list(two.senders)
    assert len(one.senders) == 300
    assert one.offset_ns(150) == 1_500_000_000
