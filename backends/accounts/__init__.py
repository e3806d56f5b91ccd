"""People and their devices, and the two small tables that gateways need: leased id generators and partition owners.

One SQL database behind all three ports (SQLite embedded, PostgreSQL or YugabyteDB otherwise). Every method raises Unavailable when the
database does not answer within the settings' timeout (default 5 s). Source: design.md D3, D8, D17, D19.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backends.clock import Clock, Reading
from schemas.ids import UserId


@dataclass(frozen=True, slots=True)
class Profile:
    """One account. `version` counts its changes from 1; phone, email and settings are shown to the owner only."""

    user: UserId
    user_name: str
    display_name: str
    version: int
    phone: str | None = None
    email: str | None = None
    settings: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One installation of a client that is logged in, and where its refresh tokens stand.

    `family` names the log-in: random, 128 bits, known to nobody but the holder of a token. `generation` counts rotations from 1;
    `token_hash` is the SHA-256 of the newest secret, `previous_hash` of the one before, until the newest has been used.
    """

    user: UserId
    device: str
    device_name: str
    family: str
    generation: int
    token_hash: bytes
    previous_hash: bytes | None
    salt: bytes
    created_ms: int
    seen_ms: int


class Accounts(Protocol):
    """Users, passwords' hashes, devices. Times are Unix milliseconds and come from the caller."""

    async def register(self, profile: Profile, password_hash: str) -> None:
        """A new account. Raises Refused name_taken when the user name is taken, Unavailable when the id is (mint another)."""
        ...

    async def credentials(self, user_name: str) -> tuple[Profile, str] | None:
        """The account of a (folded) user name and its password hash."""
        ...

    async def password_hash(self, user: UserId) -> str | None:
        """The password hash of a user."""
        ...

    async def set_password_hash(self, user: UserId, password_hash: str, *, was: str) -> bool:
        """Replaces the hash if it still is `was`; says whether it did."""
        ...

    async def profiles(self, users: Collection[UserId]) -> Mapping[UserId, Profile]:
        """The accounts of these ids (at most 256), those that exist."""
        ...

    async def search(self, text: str, *, limit: int) -> Sequence[Profile]:
        """Accounts whose user name or display name contains the text (3 characters or more, any case).

        First the one whose user name it is, then by user name, in the order of its bytes.
        """
        ...

    async def change_profile(self, profile: Profile) -> bool:
        """Writes the profile if the stored version is `profile.version - 1`; says whether it did. Raises Refused name_taken."""
        ...

    async def known(self, users: Collection[UserId]) -> frozenset[UserId]:
        """Which of these users exist. `send` asks this for each recipient it has not seen for a while."""
        ...

    async def put_device(self, device: Device) -> None:
        """A log-in: replaces what this user's device of that name held before."""
        ...

    async def device_of(self, family: str) -> Device | None:
        """The device that a refresh token belongs to."""
        ...

    async def rotate(self, device: Device, *, was_generation: int) -> bool:
        """Writes generation, hashes and seen_ms if the generation still is `was_generation`; says whether it did."""
        ...

    async def devices(self, user: UserId) -> Sequence[Device]:
        """The user's devices, the newest log-in first."""
        ...

    async def remove_device(self, user: UserId, device: str) -> int | None:
        """Ends a device and says its last `seen_ms`: no token of it was issued later. None: there was none."""
        ...

    async def read_clock(self, clock: Clock) -> Reading:
        """What the database's clock says, for the clock of this process; where that has none of its own, what this one says."""
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer. Answers within 2 s."""
        ...

    async def close(self) -> None:
        """Waits for calls under way, then lets go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """A generator number lent to one process until `until_ms` by the database's clock, of which `reading` is what it said then.

    `holder` is what the claim was made for and a random end, so that two claims for one name are never taken for each other.
    """

    generator: int
    holder: str
    until_ms: int
    reading: Reading


class Generators(Protocol):
    """Leased generators of message ids: no two live leases share a number (design.md D3)."""

    async def claim(self, holder: str, *, lease_s: int = 900) -> Lease:
        """A number whose lease has run out by the database's clock. Raises Unavailable when all 4,096 are lent."""
        ...

    async def renew(self, lease: Lease, *, lease_s: int = 900) -> Lease:
        """The same number for longer. Raises Refused stale when it has been lost to somebody else: mint nothing more with it."""
        ...

    async def release(self, lease: Lease) -> None:
        """Gives the number back. It is lent again only when a claim's clock is past every id the old holder can have minted (2 s)."""
        ...


@dataclass(frozen=True, slots=True)
class Owner:
    """Which gateway reads a partition. A newer generation wins."""

    partition: int
    url: str
    generation: int


class Owners(Protocol):
    """Who serves which partition of chat-deliveries; log-in and `moved` read it. It only saves reading, it is no lock (design.md D8)."""

    async def own(self, owners: Sequence[Owner]) -> None:
        """Writes each, unless a newer generation is there."""
        ...

    async def owner_of(self, partition: int) -> Owner | None:
        """Who owns it now, as far as the database knows."""
        ...
