"""Puts ports and adapters together: the only file that names adapters.

Everything is opened at its first use, so that a function loads only the drivers that its target
needs (design.md D21).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from backends.clock import Clock
from backends.configuration.current import Configuration
from backends.health import Health
from backends.settings import Settings
from backends.telemetry import logs, tracing
from backends.telemetry.tracing import in_spans
from schemas.configuration import Telemetry, Values, defaults_of
from schemas.topics import COMMANDS, DELIVERIES, QUERIES, SESSION_DELIVERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from backends.account_events import AccountEvents
    from backends.accounts import Accounts, LogIns, Suspensions
    from backends.cache import Cache
    from backends.chats import Chats
    from backends.chats.cassandra import CassandraChats
    from backends.configuration import Administrators, StoredConfiguration
    from backends.coordination import GeneratorLeases, PartitionOwners
    from backends.files import Files, FileStore
    from backends.groups import Groups
    from backends.log import LogProducer, LogReader, Topics
    from backends.log.embedded.log import EmbeddedLog
    from backends.log.kafka.brokers import Brokers
    from backends.log.kafka.log import KafkaLog
    from backends.log.knative import KnativeLogProducer
    from backends.preferences import ChatPreferences
    from backends.relations import Relations
    from backends.search import Search
    from backends.search.opensearch import OpenSearch
    from backends.signing import PublicKeys, SigningKey
    from backends.sql.database import Database


class Backends:
    """All ports of one process. Belongs to one event loop; `close` when it ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock(alone=not settings.database)
        """The time that orders, expires and refuses."""

    @cached_property
    def _log(self) -> EmbeddedLog:
        from backends.log.embedded.log import EmbeddedLog  # noqa: PLC0415 - opened at first use

        settings = self.settings
        partitions = dict.fromkeys((DELIVERIES, SESSION_DELIVERIES), settings.delivery_partitions)
        return EmbeddedLog(
            settings.data / "log.db",
            event_keys=settings.event_keys,
            partitions=partitions,
            clock=self.clock.now_s,
            not_below=self.clock.not_below,
        )

    @cached_property
    def _database(self) -> Database:
        from backends.sql.database import Database  # noqa: PLC0415 - opened at first use

        settings = self.settings
        if not settings.database:
            return Database.sqlite(settings.data / "data.db")
        return Database.postgresql(
            settings.database,
            password=settings.database_password,
            ca=settings.database_ca,
            timeout_s=settings.store_timeout_s,
        )

    @cached_property
    def _brokers(self) -> Brokers:
        from backends.log.kafka.brokers import Brokers  # noqa: PLC0415 - opened at first use

        settings = self.settings
        return Brokers(
            settings.kafka,
            security=settings.kafka_security,
            ca=settings.kafka_ca,
            user=settings.kafka_user,
            password=settings.kafka_password,
            name=settings.gateway_name or "kn-chat",
        )

    @cached_property
    def _kafka(self) -> KafkaLog:
        from backends.log.kafka.log import KafkaLog  # noqa: PLC0415 - opened at first use

        return KafkaLog(self._brokers, event_keys=self.settings.event_keys)

    @cached_property
    def _sinks(self) -> KnativeLogProducer:
        from backends.log.knative import KnativeLogProducer  # noqa: PLC0415 - opened at first use

        settings = self.settings
        sinks = {COMMANDS: settings.sink, QUERIES: settings.sink_queries}
        return KnativeLogProducer(
            sinks,
            overrides=settings.sink_overrides,
            ca=settings.sink_ca,
            event_keys=settings.event_keys,
        )

    @cached_property
    @in_spans
    def appends(self) -> LogProducer:
        """Where events are appended."""
        match self.settings.log:
            case "knative":
                return self._sinks
            case "kafka":
                return self._kafka
            case _:
                return self._log

    @property
    def ephemeral_appends(self) -> LogProducer:
        """Where gateways append what they tell each other: to partitions that they name, which a
        sink does not take.
        """
        return self._log if self.settings.log == "embedded" else self._kafka

    @property
    def reads(self) -> LogReader:
        """Where topics are read."""
        return self._log if self.settings.log == "embedded" else self._kafka

    @cached_property
    def topics(self) -> Topics:
        """What makes and checks the topics on Kafka.

        The embedded log makes its own: ask `settings.log` first.
        """
        from backends.log.kafka.topics import KafkaTopics  # noqa: PLC0415 - opened at first use

        settings = self.settings
        return KafkaTopics(
            self._brokers,
            replication=settings.kafka_replication,
            delivery_partitions=settings.delivery_partitions,
        )

    @cached_property
    @in_spans
    def cache(self) -> Cache:
        """Idempotency keys, counters, small values."""
        if self.settings.redis:
            from backends.cache.redis import RedisCache  # noqa: PLC0415 - opened at first use

            return RedisCache(
                self.settings.redis,
                password=self.settings.redis_password,
                ca=self.settings.redis_ca,
            )
        from backends.cache.embedded import EmbeddedCache  # noqa: PLC0415 - opened at first use

        return EmbeddedCache(self._log)

    @cached_property
    def _cassandra(self) -> CassandraChats:
        from backends.chats.cassandra import CassandraChats  # noqa: PLC0415 - opened at first use
        from backends.chats.cassandra_nodes import Nodes  # noqa: PLC0415 - opened at first use

        settings = self.settings
        return CassandraChats(
            Nodes(
                places=settings.cassandra,
                keyspace=settings.cassandra_keyspace,
                datacenter=settings.cassandra_datacenter,
                replication=settings.cassandra_replication,
                consistency=settings.cassandra_consistency,
                user=settings.cassandra_user,
                password=settings.cassandra_password,
                ca=settings.cassandra_ca,
                timeout_s=settings.store_timeout_s,
            )
        )

    @cached_property
    @in_spans
    def chats(self) -> Chats:
        """History and chat states."""
        if self.settings.chats == "cassandra":
            return self._cassandra
        from backends.chats.sql import SqlChats  # noqa: PLC0415 - opened at first use

        return SqlChats(self._database)

    @cached_property
    @in_spans
    def accounts(self) -> Accounts:
        """Users."""
        from backends.accounts.sql import SqlAccounts  # noqa: PLC0415 - opened at first use

        return SqlAccounts(self._database)

    @cached_property
    @in_spans
    def log_ins(self) -> LogIns:
        """Devices that are logged in."""
        from backends.accounts.log_ins import SqlLogIns  # noqa: PLC0415 - opened at first use

        return SqlLogIns(self._database)

    @cached_property
    @in_spans
    def suspensions(self) -> Suspensions:
        """What operators do about accounts."""
        from backends.accounts.suspensions import SqlSuspensions  # noqa: PLC0415 - opened at first use

        return SqlSuspensions(self._database)

    @cached_property
    @in_spans
    def account_events(self) -> AccountEvents:
        """The audit log of accounts."""
        from backends.account_events.sql import SqlAccountEvents  # noqa: PLC0415 - opened at first use

        return SqlAccountEvents(self._database)

    @cached_property
    @in_spans
    def groups(self) -> Groups:
        """Groups and their members."""
        from backends.groups.sql import SqlGroups  # noqa: PLC0415 - opened at first use

        return SqlGroups(self._database, self.configuration)

    @cached_property
    @in_spans
    def files(self) -> Files:
        """What is known of files, and who may read them."""
        from backends.files.sql import SqlFiles  # noqa: PLC0415 - opened at first use

        return SqlFiles(self._database)

    @cached_property
    @in_spans
    def file_store(self) -> FileStore:
        """The bytes of files."""
        settings = self.settings
        if not settings.s3:
            from backends.files.folder import FolderStore  # noqa: PLC0415 - opened at first use

            return FolderStore(
                settings.data / "files", now_s=self.clock.now_s, timeout_s=settings.store_timeout_s
            )
        from backends.files.s3 import Bucket, S3Store  # noqa: PLC0415 - opened at first use

        bucket = Bucket(
            url=settings.s3,
            public_url=settings.s3_public,
            name=settings.s3_bucket,
            region=settings.s3_region,
            key_id=settings.s3_key_id,
            secret=settings.s3_secret,
            ca=settings.s3_ca,
        )
        return S3Store(bucket, timeout_s=settings.store_timeout_s)

    @cached_property
    @in_spans
    def preferences(self) -> ChatPreferences:
        """What users want of their chats."""
        from backends.preferences.sql import SqlChatPreferences  # noqa: PLC0415 - opened at first use

        return SqlChatPreferences(self._database)

    @cached_property
    @in_spans
    def relations(self) -> Relations:
        """Contacts, blocks and privacy."""
        from backends.relations.sql import SqlRelations  # noqa: PLC0415 - opened at first use

        return SqlRelations(self._database)

    @cached_property
    def stored_configuration(self) -> StoredConfiguration:
        """Sections of configuration, as they are stored."""
        from backends.configuration.sql import SqlConfiguration  # noqa: PLC0415 - opened at first use

        return SqlConfiguration(self._database)

    @cached_property
    def administrators(self) -> Administrators:
        """Who may change them."""
        from backends.configuration.sql import SqlAdministrators  # noqa: PLC0415 - at first use

        return SqlAdministrators(self._database)

    @cached_property
    def configuration(self) -> Configuration:
        """What this process goes by."""
        configuration = Configuration(
            lambda: self.stored_configuration,
            defaults_of(self.settings),
            clock=self.clock.elapsed_s,
        )
        configuration.follow(_telemetry_follower(configuration.defaults.telemetry))
        return configuration

    @cached_property
    def _opensearch(self) -> OpenSearch:
        from backends.search.opensearch import OpenSearch  # noqa: PLC0415 - opened at first use

        settings = self.settings
        return OpenSearch(
            settings.opensearch,
            index=settings.opensearch_index,
            shards=settings.opensearch_shards,
            replicas=settings.opensearch_replicas,
            user=settings.opensearch_user,
            password=settings.opensearch_password,
            ca=settings.opensearch_ca,
            timeout_s=settings.store_timeout_s,
        )

    @cached_property
    @in_spans
    def search(self) -> Search:
        """The index of messages."""
        if self.settings.search == "opensearch":
            return self._opensearch
        from backends.search.sql import SqlSearch  # noqa: PLC0415 - opened at first use

        return SqlSearch(self._database)

    @cached_property
    def generators(self) -> GeneratorLeases:
        """Leased id generators."""
        # Opened at first use.
        from backends.coordination.generators import SqlGeneratorLeases  # noqa: PLC0415

        return SqlGeneratorLeases(self._database, self.clock)

    @cached_property
    def owners(self) -> PartitionOwners:
        """Partition owners."""
        # Opened at first use.
        from backends.coordination.owners import SqlPartitionOwners  # noqa: PLC0415

        return SqlPartitionOwners(self._database)

    @cached_property
    def public_keys(self) -> PublicKeys:
        """What access tokens are checked with."""
        from backends.signing import PublicKeys  # noqa: PLC0415 - opened at first use

        return PublicKeys(self.settings, clock=self.clock.elapsed_s)

    @cached_property
    def signing_key(self) -> SigningKey:
        """What access tokens are signed with; `accounts` alone uses it."""
        from backends.signing import SigningKey  # noqa: PLC0415 - opened at first use

        return SigningKey.of(self.settings)

    @cached_property
    def health(self) -> Health:
        """Which of these ports answer."""
        return Health(self)

    def own(self) -> None:
        """Makes this process the owner of the data folder until `close`, where the log lies in it:
        `dev` does, a lone function need not.

        Raises Unavailable, in one line, when another process owns it or it cannot be written.
        """
        if self.settings.log == "embedded":
            self._log.own()

    async def migrate(self) -> list[str]:
        """Brings the stores to what this version needs, and says in lines what was done; any number
        may do it at once.

        Raises Malformed when a setting is wrong, Unavailable when a store is unavailable or was
        made by a newer version.
        """
        done = await self._database.migrate()
        if self.settings.chats == "cassandra":
            done += await self._cassandra.migrate()
        if self.settings.search == "opensearch":
            done += await self._opensearch.migrate()
        return done

    async def close(self) -> None:
        """Closes what was opened: the users of a store before the store."""
        for name in (
            "chats",
            "accounts",
            "groups",
            "relations",
            "search",
            "files",
            "file_store",
            "cache",
        ):
            if name in self.__dict__:
                await self.__dict__[name].close()
        if "_cassandra" in self.__dict__:
            await self._cassandra.close()
        if "_opensearch" in self.__dict__:
            await self._opensearch.close()
        if "_database" in self.__dict__:
            await self._database.close()
        if "_sinks" in self.__dict__:
            await self._sinks.close()
        if "_kafka" in self.__dict__:
            await self._kafka.close()
        if "_log" in self.__dict__:
            await self._log.close()


def _telemetry_follower(started_with: Telemetry) -> Callable[[Values], None]:
    """Sets what changes of log level and sampling; `started_with` was set at the start."""
    current = started_with

    def follow(values: Values) -> None:
        nonlocal current
        if values.telemetry != current:
            current = values.telemetry
            logs.set_level(current.log_level)
            tracing.set_ratio(current.trace_ratio)

    return follow
