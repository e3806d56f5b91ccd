"""The registry of what can be configured while running: it is whole, and refuses what is wrong."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.settings import Settings
from schemas.configuration import SECTIONS, Values, defaults_of, section_named
from schemas.configuration_fields import TYPE_NAMES
from schemas.errors import Malformed, Refused
from tests.support.configuration_mistakes import mistakes

FIELDS = [
    pytest.param(section, field, id=f"{section}.{field.name}")
    for section in SECTIONS
    for field in SECTIONS[section].fields().values()
]
SETTINGS = {item.name: item for item in dataclasses.fields(Settings)}


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_every_field_says_what_it_is(section, field):
    """A unit, a meaning, bounds or choices, and a default that is within them."""
    assert field.type in TYPE_NAMES.values()
    assert field.unit
    assert field.meaning
    assert bool(field.choices) == (field.type == "text")
    assert (field.least is not None and field.most is not None) == (
        field.type in {"integer", "number"}
    )
    assert field.check(field.default, place="x") == field.default
    for bound in (field.least, field.most):
        assert bound is None or field.check(bound, place="x") == bound


@pytest.mark.parametrize(("section", "field"), FIELDS)
def test_a_field_with_a_setting_has_its_default(section, field):
    """And no narrower bounds than that: what a static setting allows can be set."""
    if not field.setting:
        return
    setting = SETTINGS[field.setting]

    assert setting.default == field.default
    assert (setting.metadata["least"] or 0) >= (field.least or 0)
    if setting.metadata["most"] is not None:
        assert setting.metadata["most"] <= field.most
    assert setting.metadata["choices"] == field.choices


def test_every_section_says_what_it_is_about():
    """Its docstring is what operators read."""
    assert all(section.__doc__ for section in SECTIONS.values())
    assert Values() == defaults_of(Settings())


def test_defaults_are_those_of_the_settings():
    """As they are, also beyond what can be set while running."""
    values = defaults_of(Settings(text_bytes=7, user_units=10**9, ring_s=11))

    assert (values.messages.text_bytes, values.limits.user_units) == (7, 10**9)
    assert values.retention.resume_s == 11


@pytest.mark.parametrize("mistake", list(mistakes()), ids=str)
def test_what_is_wrong_is_named(mistake):
    """The field, and for a value what would be right."""
    section = SECTIONS[mistake.section]
    with pytest.raises(Malformed) as error:
        section.checked(mistake.values)

    assert error.value.field == f"values.{mistake.field}"
    field = section.fields().get(mistake.field)
    if field is None:
        assert all(name in error.value.message for name in section.fields())
    else:
        assert field.expected in error.value.message
        assert field.least is None or f"from {field.least} to {field.most}" in error.value.message


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR"]),
    st.lists(st.integers(), max_size=2),
)


@given(st.data())
def test_what_is_taken_is_within_the_bounds(data):
    """Whatever is asked: it is refused naming a field of it, or everything in it is right."""
    name = data.draw(st.sampled_from(list(SECTIONS)))
    section = SECTIONS[name]
    known = st.sampled_from([*section.fields(), "other"])
    asked = data.draw(st.dictionaries(known, ANYTHING, max_size=4))
    try:
        checked = section.checked(asked)
    except Malformed as error:
        assert error.field in {f"values.{each}" for each in asked}
        return

    assert checked == {each: value for each, value in asked.items() if value is not None}
    for each, value in checked.items():
        field = section.fields()[each]
        if field.type in {"integer", "number"}:
            assert not isinstance(value, bool)
            assert math.isfinite(value)
            assert field.least <= value <= field.most
        else:
            assert value in (field.choices or (True, False))
    changed = Values().section(name).with_values(checked)
    assert all(getattr(changed, each) == value for each, value in checked.items())


def test_an_unknown_section_is_refused_with_those_that_there_are():
    with pytest.raises(Refused, match=", ".join(SECTIONS)) as error:
        section_named("no such section")

    assert (error.value.code, error.value.field) == ("not_found", "section")
