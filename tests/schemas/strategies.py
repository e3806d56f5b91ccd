"""Hypothesis' strategies for events."""

from __future__ import annotations

from hypothesis import strategies as st

from schemas.cloudevents import Event

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
TRACES = st.builds(
    "00-{:032x}-{:016x}-{:02x}".format,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(0, 255),
)
EVENT = st.builds(
    Event,
    id=PRINTABLE,
    source=PRINTABLE,
    type=PRINTABLE,
    data=st.binary(max_size=200),
    time=st.none() | st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    datacontenttype=st.none() | st.just("application/protobuf"),
    dataschema=st.none() | PRINTABLE,
    subject=st.none() | PRINTABLE,
    extensions=st.dictionaries(
        st.sampled_from(["partitionkey", "knchatsig", "knativeerrorcode", "a1"]), PRINTABLE
    ),
    traceparent=st.none() | TRACES,
)
