"""Redis: every write goes to its file, synced once a second; nothing is evicted.

The secure one has one user and answers TLS only.
"""

from __future__ import annotations

import hashlib
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from servers.packages import REDIS as REDIS_SERVER
from servers.place import HOST, USER, Place
from servers.server import NotReady, Server

_CONFIGURATION = """\
bind {host}
dir "{data}"
appendonly yes
appendfsync everysec
save ""
maxmemory 1gb
maxmemory-policy noeviction
"""

_SECURE = """\
port 0
tls-port {port}
tls-cert-file "{certificate}"
tls-key-file "{key}"
tls-ca-cert-file "{authority}"
tls-auth-clients no
user default off
user {user} on #{digest} ~* &* +@all
"""


def _prepare(place: Place) -> list[str]:
    """Writes the configuration and says what to run."""
    program = REDIS_SERVER.path()
    data = place.folder / "data"
    data.mkdir(exist_ok=True)
    text = _CONFIGURATION.format(host=HOST, data=data)
    if place.secure:
        files = place.certificates
        text += _SECURE.format(
            port=place.port(),
            certificate=files.certificate,
            key=files.key,
            authority=files.authority,
            user=USER,
            digest=hashlib.sha256(place.password().encode()).hexdigest(),
        )
    else:
        text += f"port {place.port()}\n"
    return [str(program), str(place.write("redis.conf", text))]


def _check(place: Place) -> None:
    """It answers PING; while it loads its file it does not."""
    login: dict[str, Any] = {
        "ssl": True,
        "ssl_ca_certs": str(place.certificates.authority),
        "username": USER,
        "password": place.password(),
    }
    client = Redis(
        host=HOST,
        port=place.port(),
        socket_timeout=3,
        retry=Retry(NoBackoff(), 0),
        **(login if place.secure else {}),
    )
    try:
        client.ping()
    except RedisError as error:
        raise NotReady(str(error)) from error
    finally:
        client.close()


def _settings(place: Place) -> dict[str, str]:
    if not place.secure:
        return {"KNCHAT_REDIS": f"redis://{place.address}/0"}
    return {
        "KNCHAT_REDIS": f"rediss://{USER}@{place.address}/0",
        "KNCHAT_REDIS_PASSWORD_FILE": str(place.password_file()),
        "KNCHAT_REDIS_CA": str(place.certificates.authority),
    }


REDIS = Server(
    "redis",
    ports=("client",),
    packages=lambda: (REDIS_SERVER,),
    prepare=_prepare,
    check=_check,
    settings=_settings,
)
