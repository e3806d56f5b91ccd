"""OpenSearch for tests: one index for the whole run. Tests use users and chats of their own."""

from __future__ import annotations

import asyncio
import secrets
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from backends.search.opensearch import OpenSearch


class Indexes:
    """One server, by the settings that `tests/support/real.py` gives."""

    def __init__(self, settings):
        self.url = settings["opensearch"]
        self._made = []
        self.shared = self.make()

    def name(self):
        """Of an index that is not there yet."""
        self._made.append(f"test-{secrets.token_hex(8)}")
        return self._made[-1]

    def make(self):
        """The name of a new index, migrated."""
        name = self.name()

        async def work():
            search = OpenSearch(self.url, index=name, shards=1, replicas=0)
            await search.migrate()
            await search.close()

        with ThreadPoolExecutor(1) as thread:  # a test's loop may be running in this one
            thread.submit(asyncio.run, work()).result()
        return name

    def open(self):
        """An adapter on the index of all tests."""
        return OpenSearch(self.url, index=self.shared)

    def close(self):
        """Deletes what was made."""
        for name in self._made:
            request = urllib.request.Request(f"{self.url}/{name}", method="DELETE")  # noqa: S310 - http
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - see above
                pass
