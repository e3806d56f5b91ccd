"""The users of Kafka that terraform/platform makes, on a real broker: each may do what its part
does, and nothing else.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import closing
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from backends.log import ProducerRecord
from backends.settings import Settings
from backends.wiring import Backends
from gateway.partitions.history_lag import HistoryLag
from schemas import topics
from schemas.cloudevents import Event
from schemas.errors import ChatError
from tests.deploy.stacks import Terraform, copied

pytestmark = pytest.mark.slow

OPERATIONS = {
    "Describe": ACLOperation.DESCRIBE,
    "DescribeConfigs": ACLOperation.DESCRIBE_CONFIGS,
    "Read": ACLOperation.READ,
    "Write": ACLOperation.WRITE,
    "Delete": ACLOperation.DELETE,
}
PATTERNS = {"literal": ACLResourcePatternType.LITERAL, "prefix": ACLResourcePatternType.PREFIXED}


def rights(tmp_path_factory):
    """User -> its list of rights, as Terraform gives it to Strimzi."""
    terraform = Terraform(copied(tmp_path_factory.mktemp("stacks")))
    terraform.init("platform")
    users = json.loads(
        json.loads(
            terraform(
                "platform",
                "console",
                stdin="jsonencode(local.kafka_users)\n",
                kubeconfig="versions.tf",
            )
        )
    )
    return {user: made["spec"]["authorization"]["acls"] for user, made in users.items()}


@pytest.fixture(scope="module")
def settings(secure_settings, tmp_path_factory):
    """User -> settings as that user, on the secure broker, which refuses what is not allowed.

    The topics are there.
    """
    base = Settings(
        log="kafka", insecure=True, data=tmp_path_factory.mktemp("data"), **secure_settings("kafka")
    )
    password = secrets.token_urlsafe(12)
    given = rights(tmp_path_factory)
    login = {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": base.kafka_ca,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": base.kafka_user,
        "sasl_plain_password": base.kafka_password,
    }
    with closing(KafkaAdminClient(bootstrap_servers=list(base.kafka), **login)) as admin:
        made = admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password=password)
                for user in given
            ]
        )
        assert set(made.values()) == {None}
        admin.create_acls(
            [
                allowed(user, acl, operation)
                for user, acls in given.items()
                for acl in acls
                for operation in acl["operations"]
            ]
        )
    return {"knchat": base} | {
        user: replace(base, kafka_user=user, kafka_password=password) for user in given
    }


def allowed(user, acl, operation):
    resource = acl["resource"]
    pattern = ResourcePattern(
        ResourceType[resource["type"].upper()], resource["name"], PATTERNS[resource["patternType"]]
    )
    return ACL(f"User:{user}", "*", OPERATIONS[operation], ACLPermissionType.ALLOW, pattern)


@pytest.fixture
async def as_user(settings):
    """The ports of a user."""
    opened = []
    admin = Backends(settings["knchat"])
    opened.append(admin)
    await admin.topics.create()

    def backends(user):
        opened.append(Backends(settings[user]))
        return opened[-1]

    yield backends
    for each in opened:
        await each.close()


def record(topic):
    event = Event(
        id=secrets.token_hex(8),
        source="/tests",
        type="knchat.tests.said.v1",
        data=b"\x08\x01",
        time="2026-11-29T00:00:00.000Z",
    )
    return ProducerRecord(topic, event, 0)


async def may_write(backends, topic):
    """Whether it can, by an append of one record."""
    try:
        await backends.appends.append([record(topic)])
    except ChatError:
        return False
    return True


async def may_read(backends, topic):
    try:
        await backends.reads.read(topic, 0, 0, max_records=1)
    except ChatError:
        return False
    return True


async def may_join(backends, group, topic):
    """A member that polls and commits, as the dispatcher does."""
    try:
        async with backends.reads.member(group, topic) as member:
            await member.poll(max_records=1)
            await member.commit({0: 0})
    except ChatError:
        return False
    return True


async def test_functions_write_what_they_decide_and_read_for_the_audit(as_user):
    """All topics but none of another product; a group of their own alone."""
    functions = as_user("kn-chat-functions")

    assert [topic for topic in topics.TOPICS if not await may_write(functions, topic)] == []
    assert [topic for topic in topics.TOPICS if not await may_read(functions, topic)] == []
    assert await functions.reads.committed("persist", topics.MESSAGES) is not None
    assert not await may_join(functions, "send", topics.COMMANDS)


async def test_gateways_read_deliveries_and_write_nothing(as_user):
    """A gateway that was taken over cannot write to any topic.

    How far history is behind it reads off the oldest outcome that waits.
    """
    gateway = as_user("kn-chat-gateway")
    started = time.monotonic()
    read = {*topics.HISTORY_GROUPS, topics.DELIVERIES, topics.SESSION_DELIVERIES}

    assert {topic for topic in topics.TOPICS if await may_read(gateway, topic)} == read
    assert (
        await as_user("kn-chat-functions").appends.append(
            [record(topic) for topic in topics.HISTORY_GROUPS]
        )
        is None
    )
    await HistoryLag(gateway.reads, clock=gateway.clock).look()
    async with gateway.reads.join("gateways", topics.DELIVERIES, member="gateway-0") as assignments:
        assert assignments
    assert not await may_write(gateway, topics.DELIVERIES)
    assert not await may_write(gateway, topics.COMMANDS)
    assert time.monotonic() - started < 60


async def test_the_data_plane_reads_inboxes_and_writes_commands_questions_and_dead_letters(as_user):
    """It cannot write deliveries either, nor history."""
    plane = as_user("kn-chat")

    assert await may_join(plane, "send", topics.COMMANDS)
    assert [topic for topic in topics.INBOXES if not await may_read(plane, topic)] == []
    for topic in (topics.COMMANDS, topics.QUERIES, topics.DEAD_LETTERS):
        assert await may_write(plane, topic)
    for topic in (topics.MESSAGES, topics.DELIVERIES):
        assert not await may_write(plane, topic)
