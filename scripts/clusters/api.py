"""The API server's HTTP interface, as far as it is needed here: JSON in and out, over TLS, with the
token of our kubeconfig.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import urllib.parse
from pathlib import Path
from typing import Any, Final

from servers.place import write_whole

_TIMEOUT_S: Final = 15

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"


class ApiFailed(Exception):
    """The API server does not answer, or refuses; `status` is 0 or that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Connection(http.client.HTTPSConnection):
    """One that is closed with its thread."""

    def __del__(self) -> None:
        self.close()


class Api:
    """Calls to one API server.

    Each thread has a connection of its own, so threads may share an Api.
    """

    def __init__(self, kubeconfig: Path) -> None:
        """`kubeconfig`: one that `write_kubeconfig` wrote."""
        try:
            config = json.loads(kubeconfig.read_text())
            cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
            self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        except OSError as error:
            raise ApiFailed(0, f"it has not written its certificate yet: {error}") from error
        self._address = urllib.parse.urlsplit(cluster["server"])
        self._headers = {"Authorization": f"Bearer {user['token']}", "Accept": JSON}
        self._of_thread = threading.local()

    def call(self, method: str, path: str, body: object = None, *, content: str = JSON) -> Any:
        """The answer, parsed when it is JSON.

        ApiFailed for everything but 2xx. A body that is text is sent as it is.
        """
        connection = self._connection()
        sent = body if isinstance(body, str) or body is None else json.dumps(body)
        while True:
            is_new = connection.sock is None
            try:
                connection.request(
                    method, path, sent and sent.encode(), {**self._headers, "Content-Type": content}
                )
                response = connection.getresponse()
                text = response.read().decode()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # Else the server has closed it while it was idle.
                if is_new or isinstance(error, TimeoutError):
                    raise ApiFailed(0, str(error)) from error
        is_json = response.getheader("Content-Type", "").startswith(JSON)
        answer = json.loads(text) if is_json else text
        if response.status >= 300:
            raise ApiFailed(
                response.status, answer.get("message", text) if isinstance(answer, dict) else text
            )
        return answer

    def _connection(self) -> _Connection:
        if not hasattr(self._of_thread, "connection"):
            host, port = self._address.hostname or "", self._address.port
            self._of_thread.connection = _Connection(
                host, port, timeout=_TIMEOUT_S, context=self._tls
            )
        connection: _Connection = self._of_thread.connection
        return connection


def write_kubeconfig(path: Path, *, server: str, authority: Path, token: str) -> None:
    """One cluster, one user, one context, all called `kn-chat`; as JSON, which is YAML too.

    Only we can read it.
    """
    name = "kn-chat"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority": str(authority)}}
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    write_whole(path, json.dumps(config, indent=1))
