"""Configuration over HTTP, for administrators: what can be set, what it is, and who changed it.

The target `accounts` serves it. Which sections and fields there are is said in
schemas/configuration.py alone. Source: design.md D20; protocol.md section 1.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backends.configuration import Revision
from backends.configuration.current import read_section
from functions.runtime.context import Context
from functions.runtime.http_endpoint import endpoint
from schemas import configuration_calls as calls
from schemas import costs
from schemas.configuration import SECTIONS, section_named
from schemas.errors import Malformed, Refused
from schemas.ids import LATEST, parse_id, time_text
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.configuration.current import Configuration

log = logging.getLogger(__name__)


async def change_section(
    name: str, change: calls.SectionChange, caller: Claims, context: Context, *, now_ms: int
) -> Revision:
    """The new revision, which this process goes by at once and all others within 5 s.

    Raises Refused not_found, stale when the version is not the newest; Malformed naming the field
    that is wrong, and then nothing is changed.
    """
    values = section_named(name).checked(change.values)
    known = min(parse_id(change.version, name="version"), LATEST - 1)  # no stored one is so high
    revision = Revision(name, known + 1, values, caller.user, now_ms)
    if not await context.backends.stored_configuration.put(revision):
        raise Refused("stale", "the section has changed since: read it again", field="version")
    log.info(
        "configuration set",
        extra={
            "section": name,
            "version": revision.version,
            "user_id": caller.user,
            "values": dict(values),
        },
    )
    return revision


def _shown(name: str, revision: Revision | None, configuration: Configuration) -> calls.Section:
    defaults = configuration.defaults.section(name)
    try:
        section = read_section(defaults, revision)
    except Malformed:  # of another version: what this process goes by is told
        section = configuration.values.section(name)
    is_set = set[str]() if revision is None else {*(revision.values or ())}
    return calls.Section(
        section=name,
        meaning=" ".join((SECTIONS[name].__doc__ or "").split()),
        version="0" if revision is None else str(revision.version),
        author=None if revision is None else str(revision.author),
        changed=None if revision is None else time_text(revision.changed_ms),
        fields=[
            calls.ConfigurationField(
                name=field.name,
                type=field.type,
                unit=field.unit,
                meaning=field.meaning,
                default=getattr(defaults, field.name),
                value=getattr(section, field.name),
                is_set=field.name in is_set,
                least=field.least,
                most=field.most,
                choices=[*field.choices] or None,
            )
            for field in section.fields().values()
        ],
    )


# ---- endpoints -----------------------------------------------------------------------------------


@endpoint("GET", "/v1/config", cost=costs.LIST, for_administrators=True)
async def list_sections(context: Context) -> calls.Sections:
    """All sections of the configuration. For administrators."""
    backends = context.backends
    newest = await backends.stored_configuration.newest()
    return calls.Sections(
        sections=[_shown(name, newest.get(name), backends.configuration) for name in SECTIONS]
    )


@endpoint(
    "GET", "/v1/config/{section}", cost=costs.ONE, for_administrators=True, errors=("not_found",)
)
async def get_section(section: str, context: Context) -> calls.Section:
    """One section: its fields with their meanings, bounds, defaults and values. For
    administrators.
    """
    section_named(section)
    backends = context.backends
    newest = await backends.stored_configuration.newest()
    return _shown(section, newest.get(section), backends.configuration)


@endpoint(
    "PUT",
    "/v1/config/{section}",
    cost=costs.WRITE,
    for_administrators=True,
    errors=("not_found", "stale"),
)
async def put_section(
    section: str, body: calls.SectionChange, caller: Claims, context: Context, now_ms: int
) -> calls.Section:
    """Sets the values of a section; all processes go by them within 5 s. For administrators."""
    revision = await change_section(section, body, caller, context, now_ms=now_ms)
    configuration = context.backends.configuration
    await configuration.look()
    return _shown(section, revision, configuration)


@endpoint(
    "GET",
    "/v1/config/{section}/history",
    cost=costs.PAGE,
    for_administrators=True,
    errors=("not_found",),
)
async def list_revisions(
    section: str, query: calls.HistoryQuery, context: Context
) -> calls.Revisions:
    """Who changed what of a section, and when; the newest first. For administrators."""
    section_named(section)
    below = LATEST if query.before is None else parse_id(query.before, name="before")
    found = await context.backends.stored_configuration.history(
        section, below=below, limit=query.limit + 1
    )
    shown = [
        calls.Revision(
            version=str(revision.version),
            author=str(revision.author),
            changed=time_text(revision.changed_ms),
            values=dict(revision.values or {}),
        )
        for revision in found[: query.limit]
    ]
    more = len(found) > query.limit
    return calls.Revisions(revisions=shown, before=shown[-1].version if more else None)
