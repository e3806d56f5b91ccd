"""The users of a demonstration: `dev` registers them, and the sample events of functions/samples
come from them.
"""

from __future__ import annotations

from typing import Final

from schemas.ids import UserId

DEMO_USERS: Final = {"alice": UserId(1001), "bob": UserId(1002)}
"""User name -> id.

Fixed, so that a sample event is accepted wherever these users exist; real ids are random and far
larger.
"""
