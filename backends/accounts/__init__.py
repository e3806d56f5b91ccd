"""People and their log-ins.

One SQL database behind both ports (SQLite embedded, PostgreSQL or YugabyteDB otherwise). Every
method raises Unavailable when the database does not answer within the settings' timeout (default 5
s). Source: design.md D17, D19.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from backends.clock import Clock, Reading
from schemas import chat_pb2 as pb
from schemas.ids import UserId

MAX_DEVICES_PER_USER: Final = 50
"""A new log-in beyond ends the device that was unused longest.

Who had more before there was this limit keeps them.
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """One account.

    `version` counts its changes from 1; `avatar` is a file's id, or empty. Phone, email and
    settings are shown to the owner only.
    """

    user: UserId
    user_name: str
    display_name: str
    version: int
    phone: str | None = None
    email: str | None = None
    settings: Mapping[str, object] | None = None
    avatar: str = ""


class Accounts(Protocol):
    """Users and their passwords' hashes."""

    async def register(self, profile: Profile, password_hash: str) -> None:
        """A new account.

        Raises Refused name_taken when the user name is taken, Unavailable when the id is (make
        another).
        """
        ...

    async def credentials(self, user_name: str) -> tuple[Profile, str, int] | None:
        """The account of a (folded) user name, its password hash and its session epoch."""
        ...

    async def password_hash(self, user: UserId) -> str | None:
        """The password hash of a user."""
        ...

    async def set_password_hash(self, user: UserId, password_hash: str, *, was: str) -> bool:
        """Replaces the hash if it still is `was`; says whether it did.

        For another hash of the same password: no log-in ends.
        """
        ...

    async def profiles(self, users: Collection[UserId]) -> Mapping[UserId, Profile]:
        """The accounts of these ids (at most 256), those that exist."""
        ...

    async def search(self, text: str, *, limit: int) -> Sequence[Profile]:
        """Accounts whose user name or display name contains the text (3 characters or more, any
        case).

        First the one whose user name it is, then by user name, in the order of its bytes.
        """
        ...

    async def change_profile(self, profile: Profile, *, now_ms: int) -> bool:
        """Writes the profile if the stored version is `profile.version - 1`; says whether it did.

        A new avatar must be a complete avatar file of the user, with its previews; the one before
        is idle from `now_ms` on. Raises Refused name_taken, and what an avatar raises
        (`backends/files/avatars.py`).
        """
        ...

    async def read_clock(self, clock: Clock) -> Reading:
        """What the database's clock says, for the clock of this process; where that has none of its
        own, what this one says.
        """
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer. Answers within 2 s."""
        ...

    async def close(self) -> None:
        """Waits for calls under way, then closes connections."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """One installation of a client that is logged in, and where its refresh tokens stand.

    `family` names the log-in: random, 128 bits, known to the holder of a token alone. `generation`
    counts rotations from 1, the last at `rotated_ms`; `token_hash` is the SHA-256 of the newest
    secret, `previous_hash` of the one before, and `salt` what the newest was made with. `epoch` is
    the account's session epoch when it logged in: once the account has a higher one, the device is
    logged out.
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
    rotated_ms: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """Log-ins of one user that have ended: of a device, those with tokens issued before `before_ms`
    (Unix milliseconds).

    With an `epoch` above 0 the device is empty and all log-ins of a lower epoch have ended; `kept`
    is the device that goes on, with tokens of this epoch. `suspended`: an operator has suspended
    the account.
    """

    user: UserId
    device: str
    before_ms: int
    epoch: int = 0
    kept: str = ""
    suspended: bool = False

    @property
    def delivery(self) -> pb.Delivery:
        """How the user's gateway is told."""
        revoked = pb.Revoked(
            device=self.device,
            before_ms=self.before_ms,
            epoch=self.epoch,
            kept=self.kept,
            suspended=self.suspended,
        )
        return pb.Delivery(users=[self.user], revoked=revoked)


@dataclass(frozen=True, slots=True)
class Notice:
    """What the other devices of a user are told: one has logged in, or changed the password.

    Of two about the same `device` and `op` the newer one counts.
    """

    user: UserId
    device: str
    op: Literal["logged_in", "password_changed"]
    at_ms: int
    device_name: str

    @property
    def delivery(self) -> pb.Delivery:
        """How all devices of the user are told."""
        told = pb.DeviceNotice(
            device=self.device, op=self.op, at_ms=self.at_ms, device_name=self.device_name
        )
        return pb.Delivery(users=[self.user], device=told)


class LogIns(Protocol):
    """Devices that are logged in, and how that ends.

    Times are Unix milliseconds and come from the caller. Whatever ends log-ins writes down in the
    same transaction that the gateways have to hear of it: `unpublished` holds it until
    `mark_published`. So it does with what the user's other devices are told, where there are any:
    `untold`, until `mark_told`. While an account is suspended (`Suspensions`) no log-in begins.
    """

    async def begin(self, device: Device) -> tuple[Device, Sequence[Ending | Notice]] | None:
        """A log-in, and what is to be told of it: what it ends, which is the device's older one
        and, beyond MAX_DEVICES_PER_USER, the device that was unused longest; and the notice for the
        other devices, where there are any.

        Its times are moved behind all that the older one was issued. None, and nothing is written,
        when `device.epoch` is not the account's session epoch (any longer), or the account is
        suspended: the password has been changed meanwhile, or an operator has ended all log-ins.
        """
        ...

    async def device_of(self, family: str) -> Device | None:
        """The device that a refresh token belongs to."""
        ...

    async def device(self, user: UserId, name: str) -> Device | None:
        """The user's device of that name. One row is read."""
        ...

    async def devices(self, user: UserId) -> Sequence[Device]:
        """The user's devices, the newest log-in first."""
        ...

    async def rotate(self, device: Device, *, was_generation: int) -> bool:
        """Writes generation, hashes, salt, rotated_ms and seen_ms if the generation still is
        `was_generation`; says whether it did.
        """
        ...

    async def end(
        self, user: UserId, name: str, *, now_ms: int, family: str | None = None
    ) -> Ending | None:
        """Ends a device, with the family only if it still is that log-in. None: there was none."""
        ...

    async def change_password(
        self, user: UserId, password_hash: str, *, was: str, kept: Device
    ) -> tuple[Device, Ending] | None:
        """Replaces the hash if it still is `was`, raises the session epoch, and ends every log-in
        but `kept`, which begins anew.

        One transaction, whose cost hardly grows with the number of devices. None, and nothing is
        written, when the hash is another, or the account is suspended.
        """
        ...

    async def end_all(self, user: UserId, *, now_ms: int) -> Ending | None:
        """Raises the session epoch: every log-in of the user ends. None: there is no such user."""
        ...

    async def unpublished(self, *, limit: int) -> Sequence[Ending]:
        """Endings that the log does not have yet, as far as is known; the oldest first."""
        ...

    async def mark_published(self, endings: Sequence[Ending]) -> None:
        """The log has these now."""
        ...

    async def untold(self, *, limit: int) -> Sequence[Notice]:
        """Notices that the log does not have yet, as far as is known; the oldest first."""
        ...

    async def mark_told(self, notices: Sequence[Notice]) -> None:
        """The log has these now."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """An account as operators see it. `suspended_ms`: since when it is suspended, 0: it is not;
    `devices`: how many are logged in, those of expired log-ins too.
    """

    user: UserId
    user_name: str
    suspended_ms: int
    devices: int


class Suspensions(Protocol):
    """What operators do about accounts, and who is concerned."""

    async def suspend(self, user: UserId, *, now_ms: int) -> Ending | None:
        """Suspends the account and ends all its log-ins, in one transaction that writes down what
        gateways have to hear (`LogIns.unpublished`). None: it is suspended, or there is none.
        """
        ...

    async def resume(self, user: UserId) -> bool:
        """The user may log in again; says whether the account was suspended."""
        ...

    async def is_suspended(self, user: UserId) -> bool:
        """Whether it is; False where there is no such account."""
        ...

    async def is_suspended_log_in(self, family: str) -> bool:
        """Whether the log-in of that family ended with the suspension of its account, and that goes
        on; False where too much has happened since to tell.
        """
        ...

    async def holders(
        self, *, after: UserId, limit: int, suspended: bool = False
    ) -> Sequence[Holder]:
        """Accounts with ids above `after`, in order, at most `limit`; with `suspended` those alone.
        One stretch of the key is read.
        """
        ...

    async def holder(self, user: UserId) -> Holder | None:
        """One account."""
        ...
