"""A plug-in reads the public event log with what the README of `schemas` says it needs: chat.proto,
protobuf and a Kafka client.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from backends.log import ProducerRecord
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.topics import MESSAGES, OUTCOMES_DECIDED

SCHEMAS = Path(__file__).parents[2] / "schemas"

ACCEPTED = pb.Outcome(
    command=pb.Command(id=17, user=7, chat="d-7-8", send=pb.Send(text="Grüße, 8"))
)
REFUSED = pb.Outcome(
    command=pb.Command(id=18, user=7, chat="d-7-9", send=pb.Send(text="never read")),
    refused="blocked",
)
MARKED = pb.Outcome(command=pb.Command(id=19, user=8, chat="d-7-8", mark=pb.Mark(read=17)))


@pytest.fixture
async def brokers(kafka_settings):
    """Topics of this test's own, with three outcomes and an event of a type that the reader does
    not know.
    """
    brokers = Brokers(kafka_settings["kafka"], prefix=f"test-{uuid.uuid4().hex[:8]}-")
    await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    log = KafkaLog(brokers, event_keys=[b"0123456789abcdef"])
    data = pb.Outcomes(schema=1, outcomes=[REFUSED, MARKED, ACCEPTED]).SerializeToString()
    unknown = Event(id="1", source="/new", type="knchat.outcomes.decided.v2", data=b"\x08\x02")
    for event in (unknown, Event(id="2", source="/send", type=OUTCOMES_DECIDED.type, data=data)):
        await log.append([ProducerRecord(MESSAGES, event, 3)])
    await log.close()
    return brokers


@pytest.fixture
def program(tmp_path):
    """The README's program beside classes that protoc has just made."""
    shutil.copy(SCHEMAS / "chat.proto", tmp_path)
    subprocess.run(
        [Path(sys.executable).parent / "protoc", "--python_out=.", "chat.proto"],
        cwd=tmp_path,
        check=True,
    )
    (text,) = re.findall(
        r"^```python\n(.*?)^```", (SCHEMAS / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    path = tmp_path / "program.py"
    path.write_text(text)
    return path


async def test_the_program_of_the_readme_prints_what_was_accepted(brokers, program, kafka_settings):
    """And neither what was refused, nor what it does not know."""
    command = [sys.executable, program, kafka_settings["kafka"][0], brokers.topic(MESSAGES)]
    with subprocess.Popen(
        command, cwd=program.parent, stdout=subprocess.PIPE, text=True
    ) as running:
        line = running.stdout.readline()
        running.kill()

    assert line == "17 d-7-8 7 Grüße, 8\n"
