"""Log-ins that have ended: which tokens are no longer good, and which sessions end with them.

No I/O and no clock: time is passed in. The log tells them, and `deliveries/endings` what the log
does not hold yet. Source: design.md D19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.sessions import close
from gateway.sessions.close import Close
from schemas import chat_pb2 as pb
from schemas.tokens import Claims

if TYPE_CHECKING:
    from gateway.sessions.connection import ClientConnection


class Revocations:
    """What has ended, for as long as an older token could live."""

    def __init__(
        self, *, token_s: int, connections_of: Callable[[int], Iterable[ClientConnection]]
    ) -> None:
        """`token_s`: how long a token lives; `connections_of` gives those of a user."""
        self._token_ms = token_s * 1_000
        self._connections_of = connections_of
        self._revoked: dict[tuple[int, str], tuple[int, int]] = {}
        """User and device, or "" -> before when the tokens were issued that are refused, and until
        when that is kept.
        """
        self._epochs: dict[int, tuple[int, str, bool, int]] = {}
        """User -> the least epoch that counts, the device that went on with it, whether the account
        was suspended by it, and until when that is kept.
        """

    def apply(self, deliveries: Iterable[pb.Delivery], at_ms: int) -> None:
        """Takes the log-outs among these deliveries, which came at that time."""
        for delivery in deliveries:
            if delivery.HasField("revoked"):
                for user in delivery.users:
                    self._revoke(user, delivery.revoked, at_ms)

    def _revoke(self, user: int, revoked: pb.Revoked, at_ms: int) -> None:
        # Such a token was issued before `before_ms` by the clock that signed, which may be ahead of
        # the log's.
        until_ms = max(at_ms, revoked.before_ms) + self._token_ms
        if revoked.epoch:
            epoch, kept, suspended, since_ms = self._epochs.get(user, (0, "", False, 0))
            if revoked.epoch >= epoch:
                epoch, kept, suspended = revoked.epoch, revoked.kept, revoked.suspended
            self._epochs[user] = epoch, kept, suspended, max(until_ms, since_ms)
        else:
            key = (user, revoked.device)
            self._revoked[key] = (
                max(revoked.before_ms, self._revoked.get(key, (0, 0))[0]),
                until_ms,
            )
        for connection in self._connections_of(user):
            if (why := self.close_of(connection.session.claims)) is not None:
                connection.close(why)

    def close_of(self, claims: Claims) -> Close | None:
        """How a session with this token ends, as the log-in that it came from has ended since.

        None: it stands.
        """
        if any(
            claims.issued_ms < self._revoked.get((claims.user, device), (0, 0))[0]
            for device in (claims.device, "")
        ):
            return close.REVOKED
        epoch, kept, suspended, _ = self._epochs.get(claims.user, (0, "", False, 0))
        if claims.epoch >= epoch:
            return None
        if claims.device == kept:
            # The device that changed the password has new tokens; a thief of the old ones has not.
            return close.PASSWORD_CHANGED
        return close.SUSPENDED if suspended else close.REVOKED

    def forget(self, now_ms: int) -> None:
        """Called now and then: forgets what no living token can meet."""
        self._revoked = {key: held for key, held in self._revoked.items() if held[1] > now_ms}
        self._epochs = {user: held for user, held in self._epochs.items() if held[3] > now_ms}
