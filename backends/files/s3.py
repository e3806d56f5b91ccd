"""The `FileStore` port on S3, and what speaks its protocol. Only `wiring` and the port's suite name
it.

boto3 blocks, so calls run in threads (decisions/0062). A bucket is named in paths, not in host
names: every server of the protocol understands that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from backends.blocking import Blocking
from backends.files import Upload
from schemas.errors import Malformed, Unavailable
from schemas.file_names import content_disposition

if TYPE_CHECKING:
    from backends.files import LocalFiles

T = TypeVar("T")

THREADS: Final = 8
"""Each is a connection at most."""
CONNECT_TIMEOUT_S: Final = 2
PING_TIMEOUT_S: Final = 2.0
TRIES: Final = 2
"""One more for a connection that the server has closed meanwhile; the caller tries again later."""
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_CHANGED: Final = frozenset({"PreconditionFailed", "412"})
# What the server says when a setting is wrong, and which.
_WRONG: Final = {
    "NoSuchBucket": "KNCHAT_S3_BUCKET",
    "InvalidAccessKeyId": "KNCHAT_S3_KEY_ID",
    "AccessDenied": "KNCHAT_S3_KEY_ID",
    "SignatureDoesNotMatch": "KNCHAT_S3_SECRET",
    "AuthorizationHeaderMalformed": "KNCHAT_S3_REGION",
}
# boto3 signs by this machine's wall clock, which may be wrong for a while.
_SKEWED: Final = "RequestTimeTooSkewed"
# Of a key id that is none servers say it by codes of their own.
_REFUSALS: Final = frozenset({401, 403, 404})


class Bucket(NamedTuple):
    """Where the files lie, and by whose right. Without a key id boto3 looks for one: an instance's
    role, a service account's.
    """

    url: str
    public_url: str
    name: str
    region: str
    key_id: str
    secret: str
    ca: str


class S3Store:
    """One bucket. Connects at the first call."""

    def __init__(self, bucket: Bucket, *, timeout_s: float) -> None:
        self._bucket, self._timeout_s = bucket, timeout_s
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()
        self._threads = Blocking(
            "files", threads=THREADS, timeout_s=timeout_s, whom="the object store"
        )

    async def upload(self, key: str, *, length: int, media_type: str, expires_s: int) -> Upload:
        """A PUT whose length and type are signed: computed here, the server is not asked."""
        params = {
            "Bucket": self._bucket.name,
            "Key": key,
            "ContentLength": length,
            "ContentType": media_type,
        }
        url = await self._run(
            lambda: self._signer.generate_presigned_url("put_object", params, expires_s)
        )
        return Upload("PUT", url, {"content-type": media_type})

    async def download(self, key: str, *, name: str, media_type: str, expires_s: int) -> str:
        """A GET whose headers are signed too."""
        params = {
            "Bucket": self._bucket.name,
            "Key": key,
            "ResponseContentDisposition": content_disposition(name),
            "ResponseContentType": media_type,
            "ResponseCacheControl": "private, no-store",
        }
        url: str = await self._run(
            lambda: self._signer.generate_presigned_url("get_object", params, expires_s)
        )
        return url

    async def copy(self, key: str, to: str, *, length: int) -> int | None:
        """HEAD, then a copy of that very version, made by the server."""

        def work() -> int | None:
            place = {"Bucket": self._bucket.name}
            try:
                head = self._client.head_object(**place, Key=key)
                size: int = head["ContentLength"]
                if size == length:
                    self._client.copy_object(
                        **place,
                        Key=to,
                        CopySource={**place, "Key": key},
                        CopySourceIfMatch=head["ETag"],
                    )
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                if _code(error) in _CHANGED:
                    raise Unavailable("it is being uploaded once more: try again") from error
                raise
            return size

        return await self._run(work)

    async def read(self, key: str, *, limit: int, last: bool = False) -> bytes:
        """A GET of these bytes."""
        wanted = f"bytes=-{limit}" if last else f"bytes=0-{limit - 1}"

        def work() -> bytes:
            try:
                got = self._client.get_object(Bucket=self._bucket.name, Key=key, Range=wanted)
            except ClientError as error:
                # Of nothing there is no first byte.
                if _code(error) in _MISSING or _code(error) == "InvalidRange":
                    return b""
                raise
            with got["Body"] as body:
                content: bytes = body.read(limit)
            return content

        return await self._run(work)

    async def put(self, key: str, content: bytes, *, media_type: str) -> None:
        """One PUT."""
        await self._run(
            lambda: self._client.put_object(
                Bucket=self._bucket.name, Key=key, Body=content, ContentType=media_type
            )
        )

    async def delete(self, keys: Collection[str]) -> None:
        """Each by itself: not all servers take many in one request."""

        def work(key: str) -> None:
            self._client.delete_object(Bucket=self._bucket.name, Key=key)

        for key in keys:
            await self._run(partial(work, key))

    @property
    def local(self) -> LocalFiles | None:
        """It has a server of its own."""
        return None

    async def ping(self) -> None:
        """Asks for the bucket's first key: the answer to a HEAD would not name what is wrong."""

        def work() -> None:
            try:
                self._client.list_objects_v2(Bucket=self._bucket.name, MaxKeys=1)
            except ClientError as error:
                field = _WRONG.get(_code(error))
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if field is None and status in _REFUSALS and _code(error) != _SKEWED:
                    field = "KNCHAT_S3_KEY_ID"
                if field is None:
                    raise
                raise Malformed(
                    f"the object store refuses {field}: {_code(error)}", field=field
                ) from error

        await self._run(work, timeout_s=PING_TIMEOUT_S)

    async def close(self) -> None:
        """Waits for calls under way, then closes connections."""
        await self._threads.close()
        for client in self._clients.values():
            client.close()

    # ---- in a thread -----------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        """What asks the server."""
        return self._made(self._bucket.url)

    @property
    def _signer(self) -> Any:
        """What signs for clients, who may know the server by another name."""
        return self._made(self._bucket.public_url or self._bucket.url)

    def _made(self, url: str) -> Any:
        with self._making:
            if url not in self._clients:
                bucket = self._bucket
                session = boto3.session.Session(
                    aws_access_key_id=bucket.key_id or None,
                    aws_secret_access_key=bucket.secret or None,
                    region_name=bucket.region,
                )
                self._clients[url] = session.client(
                    "s3",
                    endpoint_url=url,
                    verify=bucket.ca or None,
                    config=Config(
                        signature_version="s3v4",
                        s3={"addressing_style": "path"},
                        connect_timeout=CONNECT_TIMEOUT_S,
                        read_timeout=self._timeout_s,
                        retries={"total_max_attempts": TRIES, "mode": "standard"},
                        max_pool_connections=THREADS,
                        # Else a signed upload demands a checksum that clients do not compute.
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                    ),
                )
            return self._clients[url]

    async def _run(self, work: Callable[[], T], *, timeout_s: float | None = None) -> T:
        def guarded() -> T:
            try:
                return work()
            except ClientError as error:
                named = _WRONG.get(_code(error))
                hint = f", see {named}" if named else ""
                if _code(error) == _SKEWED:
                    hint = ", this machine's clock is wrong"
                raise Unavailable(f"the object store refuses: {_code(error)}{hint}") from error
            except BotoCoreError as error:
                raise Unavailable("the object store does not answer") from error

        return await self._threads.run(guarded, timeout_s=timeout_s)


def _code(error: ClientError) -> str:
    code: str = error.response.get("Error", {}).get("Code", "")
    return code
