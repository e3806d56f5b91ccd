"""S3: versitygw on a folder, built from its Go modules; where there is no Go, moto, which keeps all
in memory.

Both speak HTTP with an access key: the secure set has the same one.
"""

from __future__ import annotations

import sys
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from servers.modules import Built
from servers.packages import program
from servers.place import HOST, USER, Place
from servers.server import NotReady, Server

BUCKET = "kn-chat"

_VERSITYGW = Built(
    "versitygw",
    "github.com/versity/versitygw/cmd/versitygw",
    "github.com/versity/versitygw",
    lasts="a minute",
)


def _prepare(place: Place) -> list[str]:
    """Makes the folder and the key, and says what to run."""
    data = place.folder / "data"
    data.mkdir(exist_ok=True)
    place.password()
    if not _VERSITYGW.file.exists() and program("go") is None:
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(place.port())]
    # Its secret stands in the environment, which `env` sets: other users of this machine read
    # arguments. A script of ours, so that the argument of `env` is no secret either.
    start = place.write(
        "start.sh",
        f"ROOT_ACCESS_KEY={USER} ROOT_SECRET_KEY=$(cat '{place.password_file()}')\n"
        "export ROOT_ACCESS_KEY ROOT_SECRET_KEY\n"
        f"exec '{_VERSITYGW.path()}' --port {place.address} posix '{data}'\n",
    )
    return ["/bin/sh", str(start)]


def _check(place: Place) -> None:
    """It shows the bucket, which is made if it is missing."""
    settings = _settings(place)
    session: Any = boto3.session.Session()
    client = session.client(
        "s3",
        endpoint_url=settings["KNCHAT_S3"],
        aws_access_key_id=USER,
        aws_secret_access_key=place.password(),
        region_name="us-east-1",
        config=Config(
            connect_timeout=3,
            read_timeout=3,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
    try:
        if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error
    finally:
        client.close()


def _settings(place: Place) -> dict[str, str]:
    return {
        "KNCHAT_S3": f"http://{place.address}",
        "KNCHAT_S3_BUCKET": BUCKET,
        "KNCHAT_S3_KEY_ID": USER,
        "KNCHAT_S3_SECRET_FILE": str(place.password_file()),
    }


S3 = Server(
    "s3",
    ports=("client",),
    packages=lambda: (),
    prepare=_prepare,
    check=_check,
    settings=_settings,
)
