"""`kn-chat dead-letters`: lists, shows and re-drives what could not be processed, in the embedded
log of a data folder or in Kafka.

A `dev` may run on that folder meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from backends.dead_letters import revived
from backends.log import ConsumerRecord, LogReader, ProducerRecord
from backends.telemetry.logs import escaped
from knchat import exits
from knchat.command import group
from knchat.operate import data_folder
from schemas import cloudevents, topics
from schemas.cloudevents import Event
from schemas.errors import Malformed
from schemas.ids import time_text
from schemas.signatures import check_signature

if TYPE_CHECKING:
    from backends.wiring import Backends

INBOX: Final = {
    topics.COMMANDS_ISSUED.type: topics.RETRIES,
    topics.OUTCOMES_DECIDED.type: topics.HISTORY_RETRIES,
    topics.QUERIES_ASKED.type: topics.QUERIES,
    topics.UPLOADS_COMPLETED.type: topics.UPLOADS,
}
"""Event type -> the topic that its function reads.

Whatever failed on it, it is retried through this topic and delays no other event.
"""

_POSITION: Final = re.compile(r"(\d{1,6})/(\d{1,18})", re.ASCII)
_PAGE: Final = 200

_EXAMPLES: Final = """\
examples:
  kn-chat dead-letters list                      the newest 50 of the data folder .run/data
  kn-chat dead-letters list --data /srv/chat --limit 500
  kn-chat dead-letters show 0/12                 attributes, and the data as text
  kn-chat dead-letters redrive 0/12 2/7          retry these two
  kn-chat dead-letters redrive --all             retry all, after asking

Dead letters stay in their topic for 14 days, re-driven or not. Re-driving twice does no harm: the
same command has the same effect once."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One record of chat-dead-letters. `event` is None when it is no CloudEvent."""

    record: ConsumerRecord
    event: Event | None

    @property
    def position(self) -> str:
        return f"{self.record.partition}/{self.record.offset}"

    def attribute(self, name: str) -> str:
        return "" if self.event is None else self.event.extensions.get(name, "")


@group(_EXAMPLES)
def run() -> None:
    """Events that a function refused for good, or could not take within its retries."""


@run.command("list", epilog=_EXAMPLES)
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, metavar="N", help="the newest N (default 50)"
)
@data_folder.option
def _run_list(limit: int, folder: Path | None) -> int:
    """One line each, oldest first."""
    return _ask(folder, lambda backends: _list(backends.reads, limit))


@run.command("show", epilog=_EXAMPLES)
@click.argument("position", metavar="PARTITION/OFFSET")
@data_folder.option
def _run_show(position: str, folder: Path | None) -> int:
    """One with all attributes and its data."""
    return _ask(folder, lambda backends: _show(backends.reads, position))


@run.command("redrive", epilog=_EXAMPLES)
@click.argument("positions", nargs=-1, metavar="[PARTITION/OFFSET]...")
@click.option("--all", "everything", is_flag=True, help="all there are")
@click.option("--yes", is_flag=True, help="do not ask before --all")
@data_folder.option
def _run_redrive(
    positions: tuple[str, ...], everything: bool, yes: bool, folder: Path | None
) -> int:
    """Append again to the topic that the failed function reads."""
    if bool(positions) == everything:
        raise exits.Ended("say which: PARTITION/OFFSET ..., or --all", exits.USAGE)
    return _ask(folder, lambda backends: _redrive(backends, positions, ask=not yes))


def _ask(folder: Path | None, question: Callable[[Backends], Coroutine[None, None, int]]) -> int:
    """What it answers on the log of this folder, or of the settings."""
    settings = data_folder.settings_of(folder)

    async def work() -> int:
        from backends.wiring import Backends  # noqa: PLC0415 - `--help` does without

        backends = Backends(settings)
        try:
            return await question(backends)
        finally:
            await backends.close()

    return asyncio.run(work())


async def _list(reads: LogReader, limit: int) -> int:
    newest: list[tuple[int, int, int, Letter]] = []  # a heap with the oldest on top
    count = 0
    async for letter in _letters(reads):
        count += 1
        heapq.heappush(
            newest, (letter.record.at_ms, letter.record.partition, letter.record.offset, letter)
        )
        if len(newest) > limit:
            heapq.heappop(newest)
    line = "{:<10}  {:<24}  {:<4}  {:<28}  {:<32}  {}"
    if newest:
        print(line.format("POSITION", "SINCE", "CODE", "REASON", "FAILED AT", "EVENT"))
    for *_, letter in sorted(newest):
        event = (
            "no CloudEvent"
            if letter.event is None
            else escaped(f"{letter.event.type} {letter.event.id}")
        )
        code, reason, dest = (
            escaped(letter.attribute(name) or "-")
            for name in ("knativeerrorcode", "reason", "knativeerrordest")
        )
        print(
            line.format(letter.position, time_text(letter.record.at_ms), code, reason, dest, event)
        )
    print(
        f"{count} dead letters, {len(newest)} shown" if count else "no dead letters",
        file=sys.stderr,
    )
    return exits.OK


async def _show(reads: LogReader, position: str) -> int:
    letter = await _letter(reads, position)
    print(
        f"{'position':<20}  {letter.position}\n{'dead-lettered at':<20}  "
        f"{time_text(letter.record.at_ms)}"
    )
    event = letter.event
    if event is None:
        print(f"no CloudEvent; headers {letter.record.headers!r}\n{letter.record.value!r}")
        return exits.OK
    named = {
        name: getattr(event, name)
        for name in (
            "id",
            "source",
            "type",
            "subject",
            "time",
            "dataschema",
            "datacontenttype",
            "traceparent",
        )
    }
    for name, value in (*named.items(), *sorted(event.extensions.items())):
        if value is not None:
            print(
                f"{name:<20}  {_answered(value) if name == 'knativeerrordata' else escaped(value)}"
            )
    print(_data(event))
    return exits.OK


async def _redrive(backends: Backends, positions: Sequence[str], *, ask: bool) -> int:
    keys = backends.settings.event_keys
    if positions:
        records = [
            _again(await _letter(backends.reads, position), keys, backends.clock.now_ms())
            for position in positions
        ]
    else:
        records, left = [], 0
        async for letter in _letters(backends.reads):
            try:
                records.append(_again(letter, keys, backends.clock.now_ms()))
            except exits.Ended:
                left += 1
        if left:
            print(f"{left} left out; re-drive one by its position to see why", file=sys.stderr)
        if records and ask and not _agreed(f"Re-drive {len(records)} dead letters?"):
            raise exits.Ended("nothing was re-driven")
    for start in range(0, len(records), _PAGE):
        await backends.appends.append(records[start : start + _PAGE])
        print(f"{min(start + _PAGE, len(records))} of {len(records)} re-driven", file=sys.stderr)
    if not records:
        print("no dead letters to re-drive", file=sys.stderr)
    return exits.OK


def _again(letter: Letter, keys: Sequence[bytes], now_ms: int) -> ProducerRecord:
    """The event as it was before it failed. Raises Ended when it cannot or must not be retried.

    The log signs what it appends, so a forged event must be found here; what is re-driven on
    purpose has a time of its own, or it would be too old for its inbox.
    """
    event = letter.event
    if event is None or event.type not in INBOX:
        raise exits.Ended(f"{letter.position} has no topic to go back to: it is no event of ours")
    try:
        check_signature(event, topics.INBOXES, keys, now_ms=now_ms)
    except Malformed as error:
        why = "it is forged, or KNCHAT_EVENT_KEYS has changed since"
        raise exits.Ended(f"{letter.position} is not signed: {why}") from error
    return ProducerRecord(INBOX[event.type], replace(revived(event), time=time_text(now_ms)))


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise exits.Ended("stdin is no terminal, so it cannot ask; say --yes", exits.USAGE)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def _letters(reads: LogReader) -> AsyncIterator[Letter]:
    """All dead letters that were there at the start, partition by partition."""
    partitions = range(await reads.partitions(topics.DEAD_LETTERS))
    for partition, bounds in (await reads.bounds(topics.DEAD_LETTERS, partitions)).items():
        offset = bounds.begin
        while offset < bounds.end:
            records = await reads.read(topics.DEAD_LETTERS, partition, offset, max_records=_PAGE)
            if not records:
                break
            for record in records:
                yield _read(record)
            offset = records[-1].offset + 1


async def _letter(reads: LogReader, position: str) -> Letter:
    match = _POSITION.fullmatch(position)
    if match is None:
        raise exits.Ended(
            f"{position} is no position: PARTITION/OFFSET, as `list` shows it", exits.USAGE
        )
    partition, offset = int(match[1]), int(match[2])
    if partition < await reads.partitions(topics.DEAD_LETTERS):
        records = await reads.read(topics.DEAD_LETTERS, partition, offset, max_records=1)
        if records and records[0].offset == offset:
            return _read(records[0])
    raise exits.Ended(f"there is no dead letter at {position}")


def _read(record: ConsumerRecord) -> Letter:
    try:
        return Letter(record, cloudevents.from_kafka(record.headers, record.value))
    except Malformed:
        return Letter(record, None)


def _answered(value: str) -> str:
    try:
        return repr(base64.b64decode(value, validate=True).decode(errors="replace"))
    except binascii.Error:
        return value


def _data(event: Event) -> str:
    """The data as protobuf text; as they are when they are none of ours."""
    from google.protobuf import text_format  # noqa: PLC0415 - `list` and `redrive` do without

    from schemas import chat_pb2 as pb  # noqa: PLC0415 - see above

    messages = {event_type.type: name for name, event_type in topics.EVENT_TYPES.items()}
    try:
        name = messages[event.type]
        text = text_format.MessageToString(
            cloudevents.parse(event, getattr(pb, name)), as_utf8=True
        )
    except (KeyError, Malformed):
        return f"data, {len(event.data)} bytes\n{event.data!r}"
    shown = escaped(text.rstrip(), keep="\n")
    return f"data, {len(event.data)} bytes, a {name}\n{shown}"
