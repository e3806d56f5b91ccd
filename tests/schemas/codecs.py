"""Both codecs of client frames, as tests are parametrised with them."""

from __future__ import annotations

import json

import msgspec
import pytest

from schemas.codec import CODECS, JSON, MSGPACK

TEXT, BINARY = CODECS[JSON], CODECS[MSGPACK]
PACK = {JSON: lambda value: json.dumps(value).encode(), MSGPACK: msgspec.msgpack.encode}
BOTH = pytest.mark.parametrize("name", [JSON, MSGPACK])
