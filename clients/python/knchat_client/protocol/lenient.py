# Copied from schemas/lenient.py by scripts/generate; change that file.
"""Reads again what the strict decoder refuses: a frame is taken where protocol.md allows it, else
the error says what is wrong with it.

Allowed are null for a field that is left out, whole numbers as floats, and any value in fields that
the protocol does not name: half a surrogate pair too, which JSON and MessagePack can carry and
UTF-8 cannot. It is slow, and few frames need it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from knchat_client.protocol.errors import Malformed

Part = bytes | Raw | dict[str, Any]
"""One frame on its way in: its bytes, or its fields where the strict decoder could not take it out
of its array.
"""


class UnknownType(Exception):
    """A well-formed frame of a type that this version does not know; `re` is its number, if it had
    one.
    """

    def __init__(self, name: str, re: int | UnsetType) -> None:
        super().__init__(name)
        self.name = name
        self.re = re


class BadFrame(Malformed):
    """A known type with a missing, mistyped or out-of-range field.

    `type` and `re` are the frame's own.
    """

    # The wire's own word.
    def __init__(self, message: str, *, field: str | None, type: str, re: int | UnsetType) -> None:  # noqa: A002
        super().__init__(message, field=field)
        self.type = type
        self.re = re


class Unparsable(Exception):
    """Not a frame at all: close 4400."""


BROKEN: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoders raise."""
_DIGITS: Final = 20
_HALF: Final = "\ud800"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")


class Lenient:
    """The lenient reader of one codec for the frames of one direction, `kinds` by their `type`."""

    def __init__(self, kinds: Mapping[str, type[Struct]], *, text: bool) -> None:
        self._kinds = kinds
        self._names = {
            name: frozenset(field.encode_name for field in structs.fields(kind))
            for name, kind in kinds.items()
        }
        names = sorted(frozenset({"type", "id"}).union(*self._names.values()))
        # The fields as they came; the decoder skips those that the protocol does not name.
        raw = msgspec.defstruct(
            "Raw",
            [(f"f{at}", Raw | UnsetType, UNSET) for at in range(len(names))],
            rename=lambda f: names[int(f[1:])],
        )
        self._raw = None if text else msgspec.msgpack.Decoder(raw)

    def read(self, frame: Part) -> Struct:
        """The frame. Raises Unparsable, UnknownType or BadFrame."""
        try:
            fields = (
                frame
                if isinstance(frame, dict)
                else json_of(frame)
                if self._raw is None
                else _unpacked(self._raw.decode(frame))
            )
            number, name = _plain(fields.get("id")), fields.get("type")
        except (*BROKEN, ValueError, AttributeError) as error:
            raise Unparsable("not an object with a text `type`") from error
        re_ = (
            number
            if isinstance(number, int) and not isinstance(number, bool) and 1 <= number < 2**53
            else UNSET
        )
        if not isinstance(name, str):
            raise Unparsable("not an object with a text `type`")
        if _SURROGATE.search(name) is not None:
            raise BadFrame("type holds half a surrogate pair", field="type", type="", re=re_)
        kind = self._kinds.get(name)
        if kind is None:
            raise UnknownType(name[:64], re_)
        try:
            made = msgspec.convert(
                {
                    key: _plain(fields[key])
                    for key in self._names[name] & fields.keys()
                    if fields[key] is not None
                },
                kind,
            )
            half = _half_in(msgspec.to_builtins(made))
        except (msgspec.ValidationError, RecursionError) as error:
            text = str(error)
            missing, place = _MISSING.search(text), _PLACE.search(text)
            if missing is not None:
                text = f"{missing[1]} is missing"
            where = missing or place
            raise BadFrame(
                _PLACE.sub("", text), field=where and where[1], type=name, re=re_
            ) from error
        if half is not None:
            raise BadFrame(f"{half} holds half a surrogate pair", field=half, type=name, re=re_)
        return made


def json_of(payload: bytes | Raw) -> Any:
    """JSON by its grammar, with halves of surrogate pairs where the text has them.

    Raises ValueError or RecursionError.
    """
    return json.loads(bytes(payload).decode(), parse_int=_whole, parse_constant=_no_json)


def _whole(digits: str) -> int | float:
    """No field of ours is longer; Python refuses thousands of digits, JSON does not."""
    return int(digits) if len(digits) <= _DIGITS else math.inf


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _unpacked(raw: Struct) -> dict[str, Any]:
    """The fields of a MessagePack object; one that cannot be read holds half a surrogate pair, or
    is as wrong as that.
    """
    fields: dict[str, Any] = {}
    for name, attribute in zip(raw.__struct_encode_fields__, raw.__struct_fields__, strict=True):
        if (value := getattr(raw, attribute)) is not UNSET:
            try:
                fields[name] = msgspec.msgpack.decode(value)
            except BROKEN:
                fields[name] = _HALF
    return fields


def _plain(value: Any) -> Any:
    """Without nulls in objects, and with whole numbers as such."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _half_in(value: Any) -> str | None:
    """The name of the first field that UTF-8 cannot carry, dotted; empty for a text that is one
    itself.
    """
    if isinstance(value, str):
        return None if _SURROGATE.search(value) is None else ""
    if isinstance(value, dict):
        for name, item in value.items():
            if (found := _half_in(item)) is not None:
                return f"{name}.{found}" if found else name
    if isinstance(value, list):
        return next((found for item in value if (found := _half_in(item)) is not None), None)
    return None
