"""`kn-chat dev`: the whole product in one process on a data folder: the log, the functions behind
dispatchers and over HTTP, a gateway.

With `--real` the same product as processes on real stores (`real.py`). `product.py` composes what
the rooms offer and adds nothing but the demo users. Source: design.md sections 1 and 5, D22.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from backends.settings import Settings
from backends.telemetry import logs
from knchat import exits
from knchat.command import command, exclusive
from schemas.demo import DEMO_USERS

_EXAMPLES: Final = """\
examples:
  kn-chat dev                             on ports 8080 and 8081, data in .run/data
  kn-chat dev --data /srv/chat --no-demo  other data, no users
  kn-chat dev --memory --http-port 0 --gateway-port 0
                                          a throw-away one, on any free ports
  scripts/dev --real --gateways 2         each part a process, on Kafka, Cassandra, PostgreSQL and
                                          Redis, which it starts

When all serve it prints one line on stdout, `ready <http url> <ws url>`; everything else goes to
stderr. Ctrl-C ends it, a second Ctrl-C at once. Further settings are KNCHAT_ variables
(docs/operations/settings.md); options come before them.

With --real each function, each pump and each gateway is a process; one that ends is started again,
and processes.json in the data folder says their pids and ports. KNCHAT_KAFKA and KNCHAT_DATABASE
must name the stores, KNCHAT_CASSANDRA and KNCHAT_REDIS may; scripts/dev --real starts them unless
KNCHAT_KAFKA is set. Those stores run on at the end, until scripts/services down. One --real at a
time uses a Kafka."""


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise click.BadParameter("a number from 1 to 64")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise click.BadParameter("a port is a number from 0 (any free one) to 65535")
    return int(text)


def _folder(text: str) -> Path:
    # A variable of a script that is not set; files of ours do not belong into just any folder.
    if not text:
        raise click.BadParameter("a folder's name must not be empty")
    return Path(text)


@command(_EXAMPLES)
@exclusive("data", "memory")
@click.option(
    "--http-port",
    type=_port,
    metavar="PORT",
    help="of the HTTP functions (KNCHAT_HTTP_PORT, else 8080); 0: any",
)
@click.option(
    "--gateway-port",
    type=_port,
    metavar="PORT",
    help="of the (first) gateway (KNCHAT_GATEWAY_PORT, else 8081); 0: any",
)
@click.option(
    "--data",
    type=_folder,
    metavar="DIR",
    help="data folder, made if missing (KNCHAT_DATA, else .run/data)",
)
@click.option("--memory", is_flag=True, help="a temporary data folder, gone at the end")
@click.option(
    "--real",
    is_flag=True,
    help="each part a process of its own, on the stores that the KNCHAT_ variables name",
)
@click.option(
    "--gateways",
    type=_count,
    default="1",
    metavar="N",
    help="with --real: so many; the ports count up from the first",
)
@click.option(
    "--sink",
    is_flag=True,
    help="with --real: gateways post to a receiver, as on Knative, not to Kafka",
)
@click.option(
    "--in-process",
    is_flag=True,
    help="with --real: event functions run in their pumps, without HTTP between",
)
@click.option(
    "--from-zero",
    is_flag=True,
    help="with --real: a function starts with the first request for it, as on Knative",
)
@click.option(
    "--pump",
    multiple=True,
    metavar="FLAG",
    help="with --real: of every `kn-chat pump`, like --pump=--strict",
)
@click.option(
    "--no-demo", is_flag=True, help=f"do not register the demo users {' and '.join(DEMO_USERS)}"
)
def run(
    http_port: int | None,
    gateway_port: int | None,
    data: Path | None,
    memory: bool,
    real: bool,
    gateways: int,
    sink: bool,
    in_process: bool,
    from_zero: bool,
    pump: tuple[str, ...],
    no_demo: bool,
) -> int:
    """The whole product in one process, on a data folder.

    Nothing else is needed. With --real: processes, on real stores.
    """
    asked = {"http_port": http_port, "gateway_port": gateway_port, "data": data}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if not real and (gateways > 1 or sink or in_process or from_zero or pump):
        raise exits.Ended(
            "--gateways, --sink, --in-process, --from-zero and --pump belong to --real", exits.USAGE
        )
    if in_process and from_zero:
        raise exits.Ended(
            "with --in-process there are no processes of functions that --from-zero could leave "
            "out",
            exits.USAGE,
        )
    import uvloop  # noqa: PLC0415 - `--help` does without

    os.umask(0o077)  # whatever it and its processes write is this user's alone
    with (
        tempfile.TemporaryDirectory(prefix="kn-chat-")
        if memory
        else contextlib.nullcontext() as folder
    ):
        if folder is not None:
            given["data"] = Path(folder)
        settings, processes = replace(Settings.from_env(), **given), None
        if real:
            from knchat.develop.real import Processes  # noqa: PLC0415 - see above
            from knchat.develop.real_settings import settings_of  # noqa: PLC0415 - see above

            settings, environ = settings_of(os.environ, **given)
            logs.set_up(settings.log_level)
            kind = {"sink": sink, "in_process": in_process, "from_zero": from_zero}
            processes = Processes(settings, environ, gateways=gateways, pump_flags=pump, **kind)
        logs.set_up(settings.log_level)
        from knchat.develop.product import Product  # noqa: PLC0415 - see above

        uvloop.run(Product(settings, demo=not no_demo, processes=processes).run())
    return exits.OK
