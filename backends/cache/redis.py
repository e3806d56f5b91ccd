"""The cache on Redis or Valkey (6.2 or later, one primary): shared by all gateways and functions.

Made by `wiring`. A key is one small string under `knchat:k:`, a counter under `knchat:n:`, a value
under `knchat:v:`, a bucket under `knchat:b:`, all with a time to live. Losing Redis, or its memory,
degrades as the port says; what that means to operators stands in docs/decisions (0023).
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)

from backends.cache import KEY_TTL_S, Claim, Held
from backends.cache.redis_connection import MAX_WAITING, SILENCE_TIMEOUT_S, RedisConnection
from backends.rate_limits import Allowance, Drawn
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.ids import MessageId, UserId

CALL_TIMEOUT_S: Final = 0.05
"""Of network time, for every call but `ping`."""
PING_TIMEOUT_S: Final = 2.0
MAX_VALUE_BYTES: Final = 4_096


class _Script:
    """A Lua script: sent whole once, then by its hash."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.hash = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


# One script for the whole batch, with all values in one argument and all answers in one string: 74
# us of our CPU for one claim, 127 us for 16, 840 us for 256, with as many confirmations. A pipeline
# of SET NX GET costs 155 us to 9.2 ms, most for replies, and needs Redis 7. A value is a letter (r
# reserved, c confirmed), 8 bytes of id, 8 of content; f answers for a claim that was just reserved.
_RESERVE: Final = _Script("""
local confirmations, ttl, asked = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local answers = {}
for i, name in ipairs(KEYS) do
  local mine = string.sub(asked, 16 * i - 15, 16 * i)
  local held = redis.call('GET', name)
  if i <= confirmations then
    if not held or string.sub(held, 1, 9) == 'r' .. string.sub(mine, 1, 8) then
      redis.call('SET', name, 'c' .. mine, 'EX', ttl)
    end
  elseif held then
    answers[#answers + 1] = held
  else
    redis.call('SET', name, 'r' .. mine, 'EX', ttl)
    answers[#answers + 1] = 'f' .. mine
  end
end
return table.concat(answers)
""")
_RELEASE: Final = _Script("""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 1) == 'c' then
  redis.call('SET', KEYS[1], 'r' .. string.sub(held, 2), 'EX', ARGV[1])
end
return 1
""")
# As `limits.Bucket` does it, by Redis's own clock, so that all processes mean the same time: a
# value is when the bucket is full again.
_DRAW: Final = _Script("""
local time = redis.call('TIME')
local now, cost, longest, full = time[1] + time[2] / 1000000, tonumber(ARGV[1]), 0.000001, {}
local place, left, least = 0, 0, 1
local lefts = {}
for i, name in ipairs(KEYS) do
  local units, per_s = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local fills = units / per_s
  local from = math.min(math.max(tonumber(redis.call('GET', name) or 0), now), now + fills)
  full[i] = from + math.min(cost, units) / per_s
  lefts[i] = (now + fills - full[i]) * per_s
  if lefts[i] < lefts[least] then
    least = i
  end
  if full[i] - now - fills > longest then
    longest, place, left = full[i] - now - fills, i, (now + fills - from) * per_s
  end
end
if place > 0 then
  return string.format('%.6f %d %.6f', longest, place, left)
end
for i, name in ipairs(KEYS) do
  local ttl_ms = math.ceil((full[i] - now) * 1000) + 1
  redis.call('SET', name, string.format('%.6f', full[i]), 'PX', ttl_ms)
end
return string.format('0 %d %.6f', least, lefts[least])
""")
# INCR and EXPIRE apart would leave a counter without expiry when the connection ends between them.
_HIT: Final = _Script("""
local hits = redis.call('INCR', KEYS[1])
if hits == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return hits
""")
_ASKED: Final = struct.Struct(">Q8s")
_ANSWER: Final = struct.Struct(">cQ8s")


class RedisCache:
    """Implements `Cache`.

    Connects at the first call, and again after a loss; nothing is tried twice: the caller goes on
    without.
    """

    def __init__(
        self,
        url: str,
        *,
        password: str = "",
        ca: str = "",
        prefix: str = "knchat:",
        silence_timeout_s: float = SILENCE_TIMEOUT_S,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`url`: redis:// or rediss://, as in the settings; `ca`: a PEM file; `prefix`: of every
        key in Redis.
        """
        self._connection = RedisConnection(
            url,
            password=password,
            ca=ca,
            silence_timeout_s=silence_timeout_s,
            max_waiting=max_waiting,
        )
        self._prefix = prefix

    async def reserve(
        self, claims: Sequence[Claim], *, confirm: Sequence[Claim] = ()
    ) -> Sequence[Held]:
        """See `Cache`.

        A key's 24 h begin with its reservation or confirmation; a confirmation of a key that is not
        held takes it. One script, so the whole batch is one step to all others.
        """
        if not claims and not confirm:
            return []
        both = (*confirm, *claims)
        asked = b"".join([_ASKED.pack(claim.id, claim.content) for claim in both])
        answer: bytes = await self._run(
            _RESERVE,
            [self._key(claim.user, claim.key) for claim in both],
            len(confirm),
            KEY_TTL_S,
            asked,
        )
        return [
            Held(MessageId(id_), content, confirmed=state == b"c", fresh=state == b"f")
            for state, id_, content in _ANSWER.iter_unpack(answer)
        ]

    async def release(self, user: UserId, key: str) -> None:
        """See `Cache`."""
        await self._run(_RELEASE, [self._key(user, key)], KEY_TTL_S)

    async def draw(self, buckets: Sequence[tuple[str, Allowance]], cost: float) -> Drawn:
        """See `Cache`."""
        if not buckets:
            return Drawn(0.0)
        limits = [
            repr(float(number)).encode()
            for _, allowance in buckets
            for number in (allowance.units, allowance.per_s)
        ]
        names = [f"{self._prefix}b:{name}" for name, _ in buckets]
        answer: bytes = await self._run(_DRAW, names, repr(float(cost)).encode(), *limits)
        wait_s, place, left = answer.split()
        return Drawn(float(wait_s), buckets[int(place) - 1][1], float(left))

    async def hit(self, name: str, *, window_s: int) -> int:
        """See `Cache`. A window begins with its first event."""
        hits: int = await self._run(_HIT, [f"{self._prefix}n:{window_s}:{name}"], window_s)
        return hits

    async def put(self, name: str, value: bytes, *, ttl_s: int) -> None:
        """See `Cache`. Raises Malformed when the value is longer than 4 KiB."""
        if len(value) > MAX_VALUE_BYTES:
            raise Malformed(
                f"a cached value holds at most {MAX_VALUE_BYTES} bytes, not {len(value)}"
            )
        await self._call("SET", f"{self._prefix}v:{name}", value, "EX", ttl_s)

    async def get(self, name: str) -> bytes | None:
        """See `Cache`."""
        value: bytes | None = await self._call("GET", f"{self._prefix}v:{name}")
        return value

    async def ping(self) -> None:
        """See `Cache`.

        Counts a hit: a server that answers but takes no writes, or runs no scripts, is of no use.
        Raises Malformed when Redis refuses our credentials, or shows a certificate that our
        authorities did not sign.
        """
        try:
            await self._try(_HIT, [f"{self._prefix}n:ping"], 60, limit_s=PING_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable(f"the cache does not answer within {PING_TIMEOUT_S:.0f} s") from error
        except RedisError as error:
            raise _error_of(error) from error

    async def close(self) -> None:
        """See `Cache`."""
        await self._connection.close()

    def _key(self, user: UserId, key: str) -> str:
        return f"{self._prefix}k:{user}:{key}"

    async def _run(self, script: _Script, keys: list[str], *arguments: bytes | int) -> Any:
        try:
            return await self._try(script, keys, *arguments, limit_s=CALL_TIMEOUT_S)
        except (TimeoutError, RedisError) as error:
            raise self._unavailable(error) from error

    async def _try(
        self, script: _Script, keys: list[str], *arguments: bytes | int, limit_s: float
    ) -> Any:
        try:
            return await self._connection.call(
                "EVALSHA", script.hash, len(keys), *keys, *arguments, limit_s=limit_s
            )
        except NoScriptError:
            return await self._connection.call(
                "EVAL", script.text, len(keys), *keys, *arguments, limit_s=limit_s
            )

    async def _call(self, *words: str | bytes | int) -> Any:
        try:
            return await self._connection.call(*words, limit_s=CALL_TIMEOUT_S)
        except (TimeoutError, RedisError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        """A wrong setting too, but for `ping`: callers go on without the cache, whatever is wrong
        with it.
        """
        if isinstance(error, TimeoutError):
            return Unavailable(f"the cache does not answer within {CALL_TIMEOUT_S * 1_000:.0f} ms")
        # The text: a script's error before Redis 7. It is a primary that was demoted: the name may
        # lead to another one by now.
        if isinstance(error, ReadOnlyError) or "READONLY" in str(error):
            self._connection.drop()
        return Unavailable(_error_of(error).message)


def _error_of(error: Exception) -> ChatError:
    """What a failure means: a setting that is wrong, or a server that is unavailable."""
    if isinstance(error, AuthenticationError):
        return Malformed(
            f"Redis refuses our user or password (KNCHAT_REDIS_PASSWORD): {error}",
            field="KNCHAT_REDIS_PASSWORD",
        )
    if "DB index" in str(error):
        return Malformed(
            f"Redis has no such database as KNCHAT_REDIS names: {error}", field="KNCHAT_REDIS"
        )
    if isinstance(error, NoPermissionError):
        return Malformed(
            f"Redis does not let our user do what is needed (KNCHAT_REDIS): {error}",
            field="KNCHAT_REDIS",
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Malformed(
                f"the certificate of Redis is not good (KNCHAT_REDIS_CA): {cause.verify_message}",
                field="KNCHAT_REDIS_CA",
            )
        if isinstance(cause, ssl.SSLError) and cause.library == "X509":
            return Malformed(
                "the file that KNCHAT_REDIS_CA names holds no authorities", field="KNCHAT_REDIS_CA"
            )
        cause = cause.__cause__ or cause.__context__
    return Unavailable(f"the cache does not answer: {error}")
