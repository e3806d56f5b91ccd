"""Bodies, queries and answers of the calls about configuration: what administrators see and set.

Source: protocol.md section 1.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from schemas.configuration_fields import Value
from schemas.endpoints import Body, Id, Query, Time, Version

MAX_REVISIONS: Final = 100


class SectionChange(Body):
    """The values that a section shall have: a field that is left out, or null, has its default.

    `version` is the one that the client knows, 0 where the section was never changed.
    """

    version: Version
    values: Annotated[
        dict[str, Any],
        Field(description="by the names of the section's fields", examples=[{"text_bytes": 2048}]),
    ]


class HistoryQuery(Query):
    """A part of the history of a section."""

    before: Version | None = Field(None, description="the revisions before this one")
    limit: Annotated[int, Field(ge=1, le=MAX_REVISIONS)] = 50


class ConfigurationField(Body):
    """What a field means, what it may be, and what it is. `is_set`: `value` was set by an
    administrator; else it is the default.
    """

    name: str
    type: Annotated[str, Field(description="boolean, integer, number or text")]
    unit: str
    meaning: str
    default: Value
    value: Value
    is_set: bool
    least: int | None = None
    most: int | None = None
    choices: list[str] | None = None


class Section(Body):
    """A section. `version` counts its changes, 0: never; then there is no `author` and no time."""

    section: str
    meaning: str
    version: Version
    author: Id | None = None
    changed: Time | None = None
    fields: list[ConfigurationField]


class Sections(Body):
    """All sections."""

    sections: list[Section]


class Revision(Body):
    """What was set by one change; other fields had their defaults."""

    version: Version
    author: Id
    changed: Time
    values: dict[str, Value]


class Revisions(Body):
    """Changes of a section, the newest first. `before` asks for the next part; absent in the last
    one.
    """

    revisions: list[Revision]
    before: Version | None = None
