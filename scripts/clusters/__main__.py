"""`scripts/cluster`: a Kubernetes API server on this machine, up, down, and the tools that speak to
it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from clusters.cluster import Cluster
from clusters.tools import TOOLS
from servers.packages import say
from servers.place import Failed

_TEACHES = """\
A real Kubernetes API server for development and tests, on 127.0.0.1 and ports of this checkout's
own: etcd, kube-apiserver and kube-controller-manager as processes, with the definitions of Knative,
Strimzi and gateway-api. No container runs: objects are checked, kept, owned and deleted as in any
cluster, and pods stay Pending. The first `up` builds the servers from their Go modules (about 5
minutes, kept in the user's cache folder); later ones take seconds. It runs on until `down`, and
keeps its objects until `wipe`.

  scripts/cluster up        ready, with all definitions
  scripts/cluster status    port, process, memory, ready or not
  scripts/cluster logs      the ends of the servers' logs
  scripts/cluster down      ends it; objects and ports stay
  scripts/cluster wipe      ends it and deletes everything
  scripts/cluster tools     builds what is missing of kubectl, terraform, its provider and kn, and
                            prints NAME=PATH of each

  export KUBECONFIG=$PWD/.run/cluster/kubeconfig
  kubectl get crds

exit codes: 0 done; 1 a server failed, or (status) one is not ready, or (tools) one cannot be had;
2 wrong usage; 3 a program or the definitions are missing, the text says which; 4 a port is taken by
another program
"""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/cluster",
        description=_TEACHES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("up", "down", "status", "wipe", "logs", "tools"))
    parser.add_argument(
        "tools", nargs="*", metavar="tool", help=f"for tools: {', '.join(TOOLS)}; none named: all"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where it keeps everything, for a cluster of one's own (default: .run/cluster)",
    )
    parser.add_argument("--json", action="store_true", help="status, for programs")
    parser.add_argument("--lines", type=int, default=40, help="how much of each log (default: 40)")
    options = parser.parse_args()
    if options.tools and (options.action != "tools" or not set(options.tools) <= set(TOOLS)):
        parser.error(f"{options.tools[0]!r} is not known here; tools are {', '.join(TOOLS)}")
    try:
        return _act(Cluster(options.folder), options)
    except Failed as failed:
        print(f"cluster: {failed}", file=sys.stderr)
        return failed.code
    except KeyboardInterrupt:
        return 130


def _act(cluster: Cluster, options: argparse.Namespace) -> int:
    match options.action:
        case "up":
            cluster.up()
            say(f"export KUBECONFIG={cluster.kubeconfig}")
        case "down":
            cluster.down()
        case "wipe":
            cluster.wipe()
        case "logs":
            print(cluster.last_lines(options.lines))
        case "tools":
            return _tools(options.tools or list(TOOLS))
        case _:
            return _status(cluster, as_json=options.json)
    return 0


def _tools(names: list[str]) -> int:
    code = 0
    for name in names:
        try:
            print(f"{name}={TOOLS[name]()}", flush=True)
        except Failed as failed:
            print(f"cluster: {failed}", file=sys.stderr)
            code = failed.code
    return code


def _status(cluster: Cluster, *, as_json: bool) -> int:
    statuses = cluster.status()
    for status in statuses:
        pid, memory = (
            (status.process.pid, status.process.memory_bytes()) if status.process else (None, None)
        )
        state = "ready" if status.ready else "not ready" if status.process else "down"
        if as_json:
            print(
                json.dumps(
                    {
                        "name": status.name,
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
                f"{status.name:<24} {state:<10} port {status.port or '-':<6} pid {pid or '-':<8} "
                f"{shown}"
            )
    return 0 if all(status.ready for status in statuses) else 1


if __name__ == "__main__":
    sys.exit(main())
