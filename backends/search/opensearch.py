"""The `Search` port on OpenSearch, for installations whose messages outgrow one database.

Over its HTTP interface by aiohttp, which we post events with anyway: four calls of it are used.
Only `wiring` and the port's suite name it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp

from backends.concurrency import Backoff
from backends.search import Entry, Found, Wanted, join, joined
from backends.search.finding import Finding
from backends.search.tokens import Question, tokens_of
from schemas.errors import Malformed, Unavailable, Unfit
from schemas.ids import LATEST, ChatId, MessageId, UserId

PING_TIMEOUT_S: Final = 2.0
TIMEOUT_S: Final = 5.0
MAX_AT_ONCE: Final = 500
"""Entries of one request: 200 KB at usual lengths."""
MAX_CONNECTIONS: Final = 16
TRIES: Final = 6
RETRY: Final = Backoff(first_s=0.01, max_s=0.2, least=0.0)
"""Between tries of rows that others write too."""

# A token is one word, whatever it holds. What is searched is a second old at most: the interval is
# said, since an index that no one has asked for a while would wait for the next question.
_INDEX: Final = {
    "settings": {
        "refresh_interval": "1s",
        "analysis": {"analyzer": {"tokens": {"type": "custom", "tokenizer": "whitespace"}}},
    },
    "mappings": {
        "dynamic": "strict",
        "properties": {
            "message": {"type": "long"},
            "chat": {"type": "keyword", "index": False, "doc_values": False},
            "sender": {"type": "keyword", "index": False, "doc_values": False},
            "version": {"type": "long", "index": False, "doc_values": False},
            "has_file": {"type": "boolean", "index": False, "doc_values": False},
            "deleted": {"type": "boolean", "index": False, "doc_values": False},
            "hidden": {"type": "keyword", "doc_values": False},
            "text": {"type": "keyword", "index": False, "doc_values": False},
            "tokens": {
                "type": "text",
                "analyzer": "tokens",
                "index_options": "docs",
                "norms": False,
            },
        },
    },
}
_SHOWN: Final = ["chat", "sender", "has_file", "text"]


class _Candidate(NamedTuple):
    id: MessageId
    chat: ChatId
    sender: UserId
    has_file: bool
    text: str


class _Held(NamedTuple):
    """A document as it was read."""

    entry: Entry
    place: Mapping[str, int]
    """It is replaced only if it still is this one."""


class OpenSearch:
    """An index of one cluster. Belongs to one event loop; `close` when it is done with."""

    def __init__(
        self,
        url: str,
        *,
        index: str,
        shards: int = 3,
        replicas: int = 1,
        user: str = "",
        password: str = "",
        ca: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._url, self._index = url.rstrip("/"), index
        self._made = {"number_of_shards": shards, "number_of_replicas": replicas}
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"authorization": f"Basic {login}"} if user else {}
        self._tls = _tls(ca)
        self._timeout_s = timeout_s
        self._opened: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Future[None]] = set()
        self._closed = False

    async def migrate(self) -> list[str]:
        """Makes the index where it is missing, and says in lines what was done."""
        body = {**_INDEX, "settings": {**_INDEX["settings"], **self._made}}
        status, answer = await self._ask("PUT", "", json.dumps(body), allowed={200, 400})
        if status == 200:
            return [f"OpenSearch: index {self._index} made"]
        if answer.get("error", {}).get("type") != "resource_already_exists_exception":
            raise Malformed(
                f"OpenSearch makes no index {self._index}: {_reason(answer)}",
                field="KNCHAT_OPENSEARCH_INDEX",
            )
        return []

    async def drop(self) -> None:
        """Deletes the index, for what measures: a mistake of an operator must not be one call."""
        await self._ask("DELETE", "", allowed={200, 404})

    async def write(self, entries: Sequence[Entry]) -> None:
        """New ones at once; those that are there are read, joined, and replaced unless another has
        done so meanwhile.
        """
        known = [entry for entry in joined(entries) if 0 < entry.message < LATEST]
        for at in range(0, len(known), MAX_AT_ONCE):
            await self._write({entry.message: entry for entry in known[at : at + MAX_AT_ONCE]})

    async def _write(self, entries: dict[MessageId, Entry]) -> None:
        held: Mapping[MessageId, _Held] = {}
        for again in range(TRIES):
            lines = []
            for message, entry in entries.items():
                was = held.get(message)
                now = entry if was is None else join(was.entry, entry)
                if was is not None and now == was.entry:
                    continue
                action = "create" if was is None else "index"
                place = {} if was is None else was.place
                lines += [
                    json.dumps({action: {"_id": str(message), **place}}),
                    json.dumps(_document(now)),
                ]
            missed = await self._bulk(lines) if lines else set()
            entries = {message: entries[message] for message in missed}
            if not entries:
                return
            await asyncio.sleep(RETRY.delay_s(again))
            held = await self._read(entries)
        raise Unavailable("others write the same messages into the index")

    async def _bulk(self, lines: Sequence[str]) -> set[MessageId]:
        """Those that are there already, or are others now."""
        _, answer = await self._ask("POST", "/_bulk", "\n".join(lines) + "\n")
        missed: set[MessageId] = set()
        for item in answer["items"]:
            ((_, done),) = item.items()
            if done["status"] == 409:
                missed.add(MessageId(int(done["_id"])))
            elif done["status"] == 400:
                raise Malformed(f"OpenSearch takes no such message: {_reason(done)}")
            elif done["status"] >= 300:
                raise Unavailable(f"OpenSearch does not write now ({done['status']})")
        return missed

    async def _read(self, messages: Iterable[MessageId]) -> dict[MessageId, _Held]:
        ids = json.dumps({"ids": [str(message) for message in messages]})
        _, answer = await self._ask("POST", "/_mget", ids)
        return {
            MessageId(int(one["_id"])): _Held(
                _entry(int(one["_id"]), one["_source"]),
                {"if_seq_no": one["_seq_no"], "if_primary_term": one["_primary_term"]},
            )
            for one in answer["docs"]
            if one.get("found")
        }

    async def find(self, wanted: Wanted) -> Found:
        """Questions until there are enough, all within the timeout."""
        finding = Finding(wanted)
        try:
            async with asyncio.timeout(self._timeout_s):
                while (question := finding.question) is not None:
                    body = _body(question, wanted, before=finding.before, most=finding.most)
                    _, answer = await self._ask("POST", "/_search", json.dumps(body))
                    if answer["timed_out"] or answer["_shards"]["failed"]:
                        raise Unavailable("a part of the index does not answer")
                    finding.take([_candidate(hit) for hit in answer["hits"]["hits"]])
        except TimeoutError as error:
            raise Unavailable("the search takes too long: give more of the text") from error
        return finding.found

    async def ping(self) -> None:
        """Asks for the index."""
        status, _ = await self._ask("HEAD", "", allowed={200, 404}, timeout_s=PING_TIMEOUT_S)
        if status == 404:
            raise Unfit(f"OpenSearch has no index {self._index} yet; run kn-chat migrate")

    async def close(self) -> None:
        """Waits for requests under way: at most their timeout."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._opened is not None:
            await self._opened.close()

    async def _ask(
        self,
        method: str,
        path: str,
        body: str | None = None,
        *,
        allowed: Iterable[int] = (200,),
        timeout_s: float | None = None,
    ) -> tuple[int, Any]:
        """Status and answer. Raises Unavailable, and Malformed for what a setting is to blame."""
        if self._closed:
            raise Unavailable("OpenSearch is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        try:
            async with self._session.request(
                method,
                f"{self._url}/{self._index}{path}",
                data=body,
                headers={"content-type": _NDJSON if path == "/_bulk" else _JSON},
                timeout=aiohttp.ClientTimeout(total=timeout_s or self._timeout_s),
                allow_redirects=False,
            ) as response:
                answer = json.loads(await response.read() or b"{}")
                status = response.status
        except aiohttp.ClientConnectorCertificateError as error:
            raise Malformed(
                f"the certificate of OpenSearch is not trusted: {error.certificate_error}",
                field="KNCHAT_OPENSEARCH_CA",
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise Unavailable(f"OpenSearch does not answer: {type(error).__name__}") from error
        finally:
            self._under_way.discard(done)
            done.set_result(None)
        if status in {401, 403}:
            raise Malformed(f"OpenSearch refuses us ({status})", field="KNCHAT_OPENSEARCH_USER")
        if status not in {*allowed}:
            raise Unavailable(f"OpenSearch answers {status}: {_reason(answer)}")
        return status, answer

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
            )
        return self._opened


_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"


def _document(entry: Entry) -> dict[str, Any]:
    text, tokens = ("", "") if entry.deleted else tokens_of(entry)
    return {
        "message": entry.message,
        "chat": entry.chat,
        "sender": str(entry.sender),
        "version": entry.version,
        "has_file": entry.has_file,
        "deleted": entry.deleted,
        "hidden": [str(user) for user in sorted(entry.hidden)],
        "text": text,
        "tokens": tokens,
    }


def _entry(message: int, source: Mapping[str, Any]) -> Entry:
    """What a document tells; its text is folded, and folding it again changes nothing."""
    return Entry(
        chat=ChatId(source["chat"]),
        message=MessageId(message),
        version=MessageId(source["version"]),
        sender=UserId(int(source["sender"])),
        text=source["text"],
        has_file=source["has_file"],
        deleted=source["deleted"],
        hidden=frozenset(UserId(int(user)) for user in source["hidden"]),
    )


def _body(question: Question, wanted: Wanted, *, before: MessageId, most: int) -> dict[str, Any]:
    asked: list[Any] = [{"term": {"tokens": token}} for token in question.all_of]
    if question.any_of:
        asked.append({"terms": {"tokens": list(question.any_of)}})
    asked.append({"range": {"message": {"lt": before, "gt": wanted.after}}})
    return {
        "size": most,
        "query": {"bool": {"filter": asked, "must_not": [{"term": {"hidden": str(wanted.user)}}]}},
        "sort": [{"message": "desc"}],
        "_source": _SHOWN,
        "track_total_hits": False,
    }


def _candidate(hit: Mapping[str, Any]) -> _Candidate:
    source = hit["_source"]
    return _Candidate(
        MessageId(int(hit["_id"])),
        ChatId(source["chat"]),
        UserId(int(source["sender"])),
        source["has_file"],
        source["text"],
    )


def _reason(answer: Mapping[str, Any]) -> str:
    """Why, in few words; never what a document holds."""
    error = answer.get("error")
    return str(error.get("type", "")) if isinstance(error, Mapping) else ""


def _tls(ca: str) -> ssl.SSLContext | None:
    try:
        return ssl.create_default_context(cafile=ca) if ca else None
    except OSError as error:
        raise Malformed(
            f"KNCHAT_OPENSEARCH_CA: {ca} holds no authorities", field="KNCHAT_OPENSEARCH_CA"
        ) from error
