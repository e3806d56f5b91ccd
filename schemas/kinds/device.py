"""What a device of mine has done: `device` for all devices of the user. `accounts` and `devices`
tell it.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.ids import time_text
from schemas.kinds.kind import Kind, PushSpec


class Device(Push, tag="device", kw_only=True):
    """A device of mine has logged in, or changed the password, which ended all other log-ins.

    `op`: logged_in, password_changed. The same `device`, `op` and `time` again is a repeat.
    """

    device: str
    op: str
    time: str
    device_name: str | UnsetType = UNSET


def _push(told: pb.DeviceNotice, _user: int) -> Device:
    return Device(
        device=told.device,
        op=told.op,
        time=time_text(told.at_ms),
        device_name=told.device_name or UNSET,
    )


KIND: Final = Kind(push=PushSpec(frame=Device, body="device", push=_push))
