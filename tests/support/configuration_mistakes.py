"""Wrong values for every field of the configuration, and what must be named for each: a table made
from the registry, so that a new field is tried too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.configuration import SECTIONS
from schemas.configuration_fields import Field

_NO_NUMBERS = ("", "12", "1e3", [], [1], {}, {"value": 1}, True, False)
_NO_FLAGS = (0, 1, 1.0, "true", "no", "", [], [True], {})
_NO_WORDS = (0, 7.5, True, False, "", "nothing", "debug ", "Info", "INFO,DEBUG", ["INFO"], {})


@dataclass(frozen=True)
class Mistake:
    """Values of a section of which one is wrong."""

    section: str
    values: dict[str, Any]
    field: str
    """Where it must be found."""

    def __str__(self) -> str:
        return f"{self.section}.{self.field}={self.values.get(self.field)!r}"[:80]


def mistakes() -> Iterator[Mistake]:
    """Each alone, and beside values of the other fields that are right."""
    for name, section in SECTIONS.items():
        fields = section.fields()
        right = {field.name: field.default for field in fields.values()}
        for field in fields.values():
            for wrong in _wrong(field):
                yield Mistake(name, {field.name: wrong}, field.name)
            first = next(_wrong(field))
            yield Mistake(name, {**right, field.name: first}, field.name)
            for misspelt in (field.name.upper(), f"{field.name} ", f"{field.name}\u0000"):
                yield Mistake(name, {misspelt: field.default}, misspelt)
        for unknown in ("", "version", "__class__", "x" * 64, "сообщения"):
            yield Mistake(name, {**right, unknown: 1}, unknown)


def _wrong(field: Field) -> Iterator[Any]:
    match field.type:
        case "boolean":
            yield from _NO_FLAGS
        case "text":
            yield from _NO_WORDS
        case _:
            assert field.least is not None
            assert field.most is not None
            step = 1 if field.type == "integer" else 0.001
            yield from (field.least - step, field.most + step, -(10**30), 10**30, 1e300)
            if field.type == "integer":
                yield from (field.least + 0.5, float(field.most))
            yield from _NO_NUMBERS
