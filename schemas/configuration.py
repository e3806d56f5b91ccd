"""Configuration that changes while everything runs: each section with its fields, their defaults,
units and bounds, and what they mean. The only place where any of that is said.

To add a field: one line in its section. To add a section: its class, and its line in `Values`. The
tables of docs/operations/configuration.md follow from here (a test compares), and so do the checks
of `PUT /v1/config/{section}`, its answers and `kn-chat config`. A field that names a `setting` has
the default that the KNCHAT_ variable gives. Source: design.md D20.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import Struct, structs

from schemas.configuration_fields import About, Section
from schemas.errors import Refused


class Limits(Section, frozen=True, kw_only=True):
    """What callers may spend before they are `rate_limited`, and how many sessions a user has."""

    user_units: Annotated[
        int,
        About(
            "units",
            "what one user may spend at once; a send is 1",
            least=1,
            most=10_000_000,
            setting="user_units",
        ),
    ] = 2_000
    user_units_per_s: Annotated[
        int,
        About(
            "1/s",
            "what a user gets back of it, and each device",
            least=1,
            most=1_000_000,
            setting="user_units_per_s",
        ),
    ] = 50
    device_units: Annotated[
        int,
        About(
            "units",
            "what one device of a user may spend at once of it over HTTP",
            least=1,
            most=10_000_000,
            setting="device_units",
        ),
    ] = 300
    logins_per_minute: Annotated[
        int,
        About(
            "1/min",
            "log-ins and registrations of one address",
            least=1,
            most=10_000_000,
            setting="logins_per_minute",
        ),
    ] = 600
    failed_logins_per_minute: Annotated[
        int,
        About(
            "1/min",
            "failed log-ins of a user name from one network (and 5 times as many an hour from all) "
            "before they are slowed down",
            least=1,
            most=1_000_000,
            setting="failed_logins_per_minute",
        ),
    ] = 20
    frames_per_second: Annotated[
        int,
        About(
            "1/s",
            "messages of one session, long ones once for each 4 KiB; those beyond are read later",
            least=1,
            most=100_000,
            setting="frames_per_second",
        ),
    ] = 250
    sessions_per_user: Annotated[
        int,
        About(
            "sessions",
            "new ones beyond are closed with 4429",
            least=1,
            most=1_000,
            setting="sessions_per_user",
        ),
    ] = 20


class Messages(Section, frozen=True, kw_only=True):
    """How much a message may hold."""

    text_bytes: Annotated[
        int,
        About(
            "bytes",
            "longest text of a message, and draft; in JSON it may take 40,960 at most",
            least=1,
            most=32_768,
            setting="text_bytes",
        ),
    ] = 4_096
    reactions: Annotated[
        int,
        About(
            "emoji", "different ones at one message; those that are there stay", least=1, most=20
        ),
    ] = 20
    own_reactions: Annotated[
        int,
        About("emoji", "of one user at one message; those that are there stay", least=1, most=3),
    ] = 3
    pins: Annotated[
        int,
        About("messages", "pinned in one chat; those that are pinned stay", least=1, most=50),
    ] = 50


class Files(Section, frozen=True, kw_only=True):
    """How much users may keep; what is there already stays."""

    file_bytes: Annotated[
        int,
        About("bytes", "largest new file", least=1, most=256 * 2**20, setting="file_bytes"),
    ] = 10 * 2**20
    user_files: Annotated[
        int,
        About("files", "that one user may keep", least=1, most=10_000_000, setting="user_files"),
    ] = 10_000
    user_file_bytes: Annotated[
        int,
        About(
            "bytes",
            "of all files that one user keeps",
            least=1,
            most=2**50,
            setting="user_file_bytes",
        ),
    ] = 2**30
    held: Annotated[
        bool,
        About(
            "true or false",
            "files wait after their upload until `kn-chat files` has released them: for a scanner",
            setting="files_held",
        ),
    ] = False


class Groups(Section, frozen=True, kw_only=True):
    """How large groups may become; those that are larger already stay as they are."""

    members: Annotated[
        int,
        About("users", "of one group, its owner too", least=1, most=10_000),
    ] = 10_000
    # A user's list of chats looks at the newest message of each of them.
    groups_per_user: Annotated[
        int,
        About("groups", "that one user is in at once", least=1, most=1_000),
    ] = 1_000
    receipts_members: Annotated[
        int,
        About(
            "users",
            "up to so large a group its members are pushed each other's receipts",
            least=1,
            most=32,
        ),
    ] = 32


class Signals(Section, frozen=True, kw_only=True):
    """What users are told of each other besides messages."""

    receipts: Annotated[
        bool,
        About(
            "true or false",
            "tell others how far a user has received and read; false: only the user's own devices",
        ),
    ] = True
    typing: Annotated[
        bool,
        About("true or false", "tell others that a user is typing"),
    ] = True


class Retention(Section, frozen=True, kw_only=True):
    """How long is kept what ends by time."""

    log_in_idle_days: Annotated[
        int,
        About(
            "days",
            "without a refresh after which a log-in is over",
            least=1,
            most=3_650,
            setting="log_in_idle_days",
        ),
    ] = 60
    log_in_days: Annotated[
        int,
        About(
            "days",
            "after which a log-in is over in any case",
            least=1,
            most=36_500,
            setting="log_in_days",
        ),
    ] = 365
    resume_s: Annotated[
        int,
        About(
            "s",
            "how long a gateway keeps deliveries to resume from",
            least=10,
            most=86_400,
            setting="ring_s",
        ),
    ] = 900
    account_events_days: Annotated[
        int,
        About(
            "days",
            "how long the audit log of accounts is kept",
            least=1,
            most=3_650,
            setting="account_events_days",
        ),
    ] = 90
    account_events_rows: Annotated[
        int,
        About(
            "rows",
            "what the audit log of accounts keeps at most, the newest",
            least=1_000,
            most=100_000_000,
            setting="account_events_rows",
        ),
    ] = 1_000_000


class Telemetry(Section, frozen=True, kw_only=True):
    """What is written down about what happens."""

    log_level: Annotated[
        str,
        About(
            "level",
            "from which on lines are logged",
            choices=("DEBUG", "INFO", "WARNING", "ERROR"),
            setting="log_level",
        ),
    ] = "INFO"
    trace_ratio: Annotated[
        float,
        About(
            "share",
            "of the traces that begin in a process, those whose spans are sent to a collector",
            least=0,
            most=1,
            setting="trace_ratio",
        ),
    ] = 0.01


class Values(Struct, frozen=True, kw_only=True):
    """All sections, each with its values: what a process goes by at one moment."""

    limits: Limits = Limits()
    messages: Messages = Messages()
    files: Files = Files()
    groups: Groups = Groups()
    signals: Signals = Signals()
    retention: Retention = Retention()
    telemetry: Telemetry = Telemetry()

    def section(self, name: str) -> Section:
        """The section of this name, which is one of SECTIONS."""
        found: Section = getattr(self, name)
        return found


SECTIONS: Final[Mapping[str, type[Section]]] = {
    item.name: type(item.default) for item in structs.fields(Values)
}
"""The sections by name, in order."""


def section_named(name: str) -> type[Section]:
    """Raises Refused not_found, naming those that there are."""
    if (section := SECTIONS.get(name)) is None:
        raise Refused(
            "not_found",
            f"there is no such section; there are {', '.join(SECTIONS)}",
            field="section",
        )
    return section


def defaults_of(settings: object) -> Values:
    """What holds where no value is set: the fields that name a setting have its value.

    `settings`: an object with a field of that name, unchecked: a static setting may lie beyond what
    can be set while running.
    """
    sections: dict[str, Any] = {
        name: section().with_values(
            {
                field.name: getattr(settings, field.setting)
                for field in section.fields().values()
                if field.setting
            }
        )
        for name, section in SECTIONS.items()
    }
    return Values(**sections)
