"""What a field of the configuration is: its type and default, what is said of it, and how a value
for it is checked. The fields that there are stand in `configuration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, Self, get_args, get_type_hints

from msgspec import Struct, structs

from schemas.errors import Malformed

Value = bool | int | float | str

TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
}
"""The types of fields, and how they are called to those who set them."""


class About(Struct, frozen=True):
    """What is said of a field beside its type and default. `setting`: the field of `Settings` that
    its default comes from.
    """

    unit: str
    meaning: str
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()
    setting: str = ""


class Field(About, frozen=True, kw_only=True):
    """All that is said of one field."""

    name: str
    type: str
    default: Value

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.type == "boolean":
            return "true or false"
        number = "a whole number" if self.type == "integer" else "a number"
        return f"{number} from {self.least} to {self.most} ({self.unit})"

    def check(self, value: object, *, place: str) -> Value:
        """The value. Raises Malformed, naming the place and what would be right."""
        match self.type:
            case "boolean":
                is_right = isinstance(value, bool)
            case "text":
                is_right = value in self.choices
            case _:
                is_right = self._is_number(value) and self.least <= value <= self.most  # type: ignore[operator] # it is one
        if not is_right:
            raise Malformed(f"{self.name} must be {self.expected}", field=place)
        return float(value) if self.type == "number" else value  # type: ignore[arg-type,return-value] # see above

    def _is_number(self, value: object) -> bool:
        kinds = (int,) if self.type == "integer" else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)


class Section(Struct, frozen=True, kw_only=True):
    """Values that change together, with one version. Its docstring says what they are about."""

    @classmethod
    @cache
    def fields(cls) -> Mapping[str, Field]:
        """Its fields by name, in order."""
        hints = get_type_hints(cls, include_extras=True)
        fields = {}
        for item in structs.fields(cls):
            kind, about = get_args(hints[item.name])
            said = structs.asdict(about)
            fields[item.name] = Field(
                name=item.name, type=TYPE_NAMES[kind], default=item.default, **said
            )
        return fields

    @classmethod
    def checked(cls, values: Mapping[str, object], *, place: str = "values") -> dict[str, Value]:
        """These values of the section, those that are null left out.

        Raises Malformed naming the first field that is wrong, as `<place>.<field>`.
        """
        known, checked = cls.fields(), dict[str, Value]()
        for name, value in values.items():
            if (field := known.get(name)) is None:
                raise Malformed(
                    f"there is no such field; there are {', '.join(known)}",
                    field=f"{place}.{name[:64]}",
                )
            if value is not None:
                checked[name] = field.check(value, place=f"{place}.{name}")
        return checked

    def with_values(self, values: Mapping[str, Value]) -> Self:
        """The same section with these values in it, which were checked."""
        return structs.replace(self, **values)
