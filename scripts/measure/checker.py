"""Decides whether a run lost, doubled or disordered anything.

It trusts nothing but what clients saw and what history tells a fresh reader. Lost: an acknowledged
send that its recipient's or sender's device has not, or that history lacks. Doubled: one key with
two ids, or twice in history. Disordered: two sends of one sender to one chat, the first
acknowledged before the second was made, whose ids do not increase; or two reads that disagree.
Source: the checkers Jepsen and Elle, adapted to chat.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from measure.record import Record
from measure.schedule import Schedule


@dataclass(slots=True)
class Verdict:
    """Counts, and at most ten examples of each finding in words."""

    acknowledged: int = 0
    delivered: int = 0
    refused: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    phantoms: int = 0
    false_refusals: int = 0
    unresolved: int = 0
    """Sends that never got an answer, though they were repeated."""
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing lost, doubled, disordered or made up."""
        return not (
            self.lost
            or self.doubled
            or self.disordered
            or self.phantoms
            or self.false_refusals
            or self.unresolved
        )

    def note(self, text: str) -> None:
        """Keeps an example."""
        if len(self.examples) < 10:
            self.examples.append(text)


History = Mapping[str, Sequence[tuple[int, str]]]
"""chat -> (id, key) of each message, newest first, as one reader saw it."""


def check(
    record: Record,
    plan: Schedule,
    chats: Sequence[str],
    *,
    run: str,
    mine: History,
    theirs: History,
    resets: Sequence[int] = (),
) -> Verdict:
    """The verdict.

    `chats[i]` is client i's chat; `mine` and `theirs` are two independent reads of every chat;
    `resets[i]` counts how often client i was told to reload, after which history stands for what
    its device would have shown.
    """
    verdict = Verdict(phantoms=len(record.phantoms), refused=len(record.refused))
    for text in record.phantoms[:3]:
        verdict.note(f"phantom: {text}")
    in_history: dict[int, list[int]] = defaultdict(list)
    for messages in mine.values():
        for message_id, key in messages:
            of_run, _, number = key.rpartition("-")
            if of_run == run:
                in_history[int(number)].append(message_id)
    for row in range(record.slots):
        _check_row(verdict, record, plan, row, in_history.get(row, []), resets)
    for row, second in record.two_ids:
        verdict.doubled += 1
        verdict.note(f"doubled: row {row} has the ids {record.ids[row]} and {second}")
    _check_order(verdict, record, plan, chats)
    _check_reads(verdict, mine, theirs)
    return verdict


def _check_row(
    verdict: Verdict,
    record: Record,
    plan: Schedule,
    row: int,
    stored: list[int],
    resets: Sequence[int],
) -> None:
    acked, refused = bool(record.acked[row]), row in record.refused
    verdict.acknowledged += acked
    verdict.delivered += bool(record.delivered[row])
    if len(stored) > 1:
        verdict.doubled += 1
        verdict.note(f"doubled: row {row} is in history as {stored}")
    if refused and stored:
        verdict.false_refusals += 1
        verdict.note(f"refused ({record.refused[row]}) and yet in history: row {row}")
    if not acked and not refused:
        verdict.unresolved += 1
        verdict.note(f"no answer: row {row}, tried {record.tries[row]} times")
    if not acked or refused:
        return
    sender = plan.senders[row]
    reloaded = stored and resets and (resets[sender ^ 1] or resets[sender])
    missing = [
        name
        for name, there in (
            ("history", stored),
            ("the recipient's device", record.delivered[row] or reloaded),
            ("the sender's device", record.echoed[row] or reloaded),
        )
        if not there
    ]
    if missing:
        verdict.lost += 1
        verdict.note(
            f"lost: row {row}, id {record.ids[row]}, acknowledged, is not in "
            f"{' and '.join(missing)}"
        )
    if stored and record.ids[row] not in stored:
        verdict.doubled += 1
        verdict.note(
            f"another id: row {row} was acknowledged as {record.ids[row]} and is stored as "
            f"{stored[0]}"
        )


def _check_order(verdict: Verdict, record: Record, plan: Schedule, chats: Sequence[str]) -> None:
    by_sender: dict[int, list[int]] = defaultdict(list)
    for row, sender in enumerate(plan.senders):
        if record.acked[row] and record.ids[row]:
            by_sender[sender].append(row)
    for sender, rows in by_sender.items():
        acked = sorted(rows, key=lambda row: record.acked[row])
        highest, position = (0, -1), 0
        for row in sorted(rows, key=lambda row: record.sent[row]):
            while position < len(acked) and record.acked[acked[position]] < record.sent[row]:
                highest = max(highest, (record.ids[acked[position]], acked[position]))
                position += 1
            if highest[0] >= record.ids[row]:
                verdict.disordered += 1
                verdict.note(
                    f"disordered: in {chats[sender]} row {row} was sent after the answer to row "
                    f"{highest[1]} and has a lower id"
                )


def _check_reads(verdict: Verdict, mine: History, theirs: History) -> None:
    for chat, messages in mine.items():
        ids = [message_id for message_id, _ in messages]
        if ids != sorted(set(ids), reverse=True):
            verdict.disordered += 1
            verdict.note(f"disordered: history of {chat} is not in the order of ids")
        if list(messages) != list(theirs.get(chat, ())):
            verdict.disordered += 1
            verdict.note(f"disordered: two reads of {chat} disagree")
