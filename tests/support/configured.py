"""Configuration as a test wants it: by the way that an administrator's change takes."""

from __future__ import annotations

from backends.configuration import Revision
from backends.wiring import Backends
from schemas.configuration_fields import Value
from schemas.ids import UserId

AUTHOR = UserId(1001)


async def configure(backends: Backends, section: str, **values: Value) -> Revision:
    """Sets these values of a section, the others to their defaults; this process goes by them."""
    newest = (await backends.stored_configuration.newest()).get(section)
    version = 1 if newest is None else newest.version + 1
    revision = Revision(section, version, values, AUTHOR, 1_790_000_000_000)
    assert await backends.stored_configuration.put(revision)
    await backends.configuration.refresh()
    return revision
