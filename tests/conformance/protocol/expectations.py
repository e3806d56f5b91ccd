"""What a case expects, and what the suite has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.protocol.shapes import Shape, fields_of


class Failed(Exception):
    """A server that does not keep to the page: what was expected, and what came."""


@dataclass
class Seen:
    """The rows that have been sent or seen so far, by the names that `rows.py` gives them."""

    rows: set[str] = field(default_factory=set)

    def frame(self, side: str, frame: Mapping[str, Any]) -> None:
        self.fields(f"{side} {frame.get('type')}", frame)

    def fields(self, name: str, some: Mapping[str, Any]) -> None:
        """What has fields, and those of them that are there."""
        self.rows |= {name, *(f"{name}.{each}" for each in some)}

    def objects(self, value: Mapping[str, Any], shape: Shape) -> None:
        """The fields of the objects in an answer or a frame."""
        self.rows |= {f"object {name}.{field}" for name, field in fields_of(value, shape)}


def expect(what: str, wanted: object, came: object) -> None:
    """Fails unless the two are equal."""
    if wanted != came:
        raise Failed(f"{what}: expected {wanted!r}, came {came!r}")


def check(fact: object, what: str, came: object) -> None:
    """Fails unless it is so."""
    if not fact:
        raise Failed(f"expected {what}, came {came!r}")


def has(answer: Mapping[str, Any], what: str, **fields: object) -> None:
    """Fails unless the answer has these fields with these values."""
    expect(what, fields, {name: answer.get(name) for name in fields})
