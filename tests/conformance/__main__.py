"""`scripts/conformance`: independent suites against the gateway's own parts."""

import argparse
import sys

import uvloop

from tests.conformance import websocket

EXAMPLES = """
examples:
  scripts/conformance socket               all cases, about five seconds; exit code 1 if one fails
  scripts/conformance socket --case '7.*'  only the closing handshake
  scripts/conformance socket --all         also the cases that are not OK in the strict sense, with
                                           their reason
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/conformance",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    suites = parser.add_subparsers(dest="suite", required=True, metavar="suite")
    socket = suites.add_parser(
        "socket",
        help="the Autobahn cases (kosoku) and our size limit, against an echo on the gateway's "
        "socket",
    )
    socket.add_argument(
        "--case",
        action="append",
        help="a case or glob, such as 6.4.* (repeatable; default: all that apply)",
    )
    socket.add_argument(
        "--all",
        action="store_true",
        help="name the cases that passed without being OK in the strict sense",
    )
    arguments = parser.parse_args()
    return uvloop.run(websocket.check(arguments.case, name_all=arguments.all))


sys.exit(main())
