"""`scripts/bench compare`: this checkout beside an earlier commit under the same load, run by run
in turn, as ratios of pairs.

A machine's speed drifts by more than what is looked for; two runs one after the other share its
speed. A figure got no worse when the median ratio is at most LIMIT, or when LIMIT lies within the
90 % interval of the median (bootstrap over the pairs).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from servers.services import RUN

EXAMPLES: Final = """examples:
  scripts/bench compare b77c1b2 -- --rate 300 --seconds 20
  scripts/bench compare main --cold-start
  scripts/bench compare main --shared-stores -- --real --rate 1000 --seconds 20 --no-tax

What stands behind -- are options of scripts/load. The other commit is checked out into
.run/compare, with an environment of its own, and for --real with stores of its own: the same JVM
may be a tenth faster or slower from one start to the next, which --shared-stores keeps out where
both commits have the same tables. The exit code is 1 when a run has failed, or a figure got
worse."""

LIMIT: Final = 1.03
FIGURES: Final = {
    "CPU-us a message": ("cpu_us",),
    "ack p50": ("ack", "p50"),
    "delivery p50": ("delivery", "p50"),
    "cold start, ms": ("cold_start_ms",),
}
"""Name -> where it stands in a step of the JSON report, or of `started`."""
SHOWN: Final = {"ack p99": ("ack", "p99"), "delivery p99": ("delivery", "p99")}
"""Printed and not judged: the 99th percentile of a run of seconds is one hiccup of the machine."""
STARTS: Final = 3
"""Of each function in a run: its median counts."""
_SAMPLES: Final = 10_000
# A row of `scripts/bench cold-start`: program, median, worst, ratio.
_STARTED: Final = re.compile(r"^(\w+) +(\d+) +\d+ +\d+\.\d+ ", re.MULTILINE)
_ROOT: Final = Path(__file__).resolve().parents[2]


def interval(ratios: Sequence[float], *, seed: int = 1) -> tuple[float, float]:
    """The 90 % interval of the median, by bootstrap."""
    chance = random.Random(seed)  # noqa: S311 - statistics
    medians = sorted(
        statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(_SAMPLES)
    )
    return medians[_SAMPLES // 20], medians[-_SAMPLES // 20]


def got_worse(ratios: Sequence[float]) -> bool:
    """Whether these ratios of now to before say so."""
    low, high = interval(ratios)
    return statistics.median(ratios) > LIMIT and not low <= LIMIT <= high


def checked_out(revision: str) -> Path:
    """A checkout of the commit, made if missing."""
    found = subprocess.run(
        ["git", "rev-parse", "--verify", f"{revision}^{{commit}}"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise SystemExit(f"scripts/bench: there is no commit {revision}")
    commit = found.stdout.strip()
    folder = _ROOT / ".run/compare" / commit[:12]
    if not folder.exists():
        subprocess.run(["git", "worktree", "prune"], cwd=_ROOT, check=True)
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", folder, commit], cwd=_ROOT, check=True
        )
    return folder


def share_stores(checkout: Path) -> None:
    """Leads the checkout to the stores of this one, which need not run yet.

    Those of its own, which an earlier comparison has left, must be gone.
    """
    stores = checkout / ".run/services"
    if stores.exists() and not stores.is_symlink():
        raise SystemExit(
            f"scripts/bench: {stores} has stores of its own: end them with `scripts/services down` "
            "there, and delete the folder"
        )
    stores.parent.mkdir(exist_ok=True)
    RUN.mkdir(exist_ok=True)
    stores.unlink(missing_ok=True)
    stores.symlink_to(RUN / "services", target_is_directory=True)


def measured(checkout: Path, options: Sequence[str]) -> list[dict[str, Any]]:
    """The steps of one run of `scripts/load` there.

    A run that lost something, or failed, ends the comparison.
    """
    with tempfile.TemporaryDirectory(prefix="kn-chat-compare-") as folder:
        report = Path(folder, "report.json")
        done = subprocess.run(
            [checkout / "scripts/load", *options, "--json", report],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{checkout / 'scripts/load'} ended with "
                f"{done.returncode}\n{done.stdout}{done.stderr}"
            )
        steps: list[dict[str, Any]] = json.loads(report.read_text())["steps"]
    print(".", end="", file=sys.stderr, flush=True)
    return steps


def started(checkout: Path) -> list[dict[str, Any]]:
    """The cold start of each function there, as a step."""
    done = subprocess.run(
        [checkout / "scripts/bench", "cold-start", "--rounds", str(STARTS), "--no-floor"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{checkout / 'scripts/bench'} failed\n{done.stdout}{done.stderr}")
    print(".", end="", file=sys.stderr, flush=True)
    return [
        {"title": name, "cold_start_ms": float(median)}
        for name, median in _STARTED.findall(done.stdout)
    ]


def of(step: dict[str, Any], path: Sequence[str]) -> float:
    """A figure of a step; NaN where it has none."""
    value: Any = step
    for name in path:
        value = value.get(name, math.nan) if isinstance(value, dict) else math.nan
    return float(value)


def show(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> bool:
    """Prints a row for each figure of a step; says whether one got worse."""
    first = pairs[0][1]
    worse, title = False, first.get("title") or f"{first['rate']:g} messages/s"
    print(
        f"{title:<18}{'before':>10}{'now':>10}{'ratio':>8}   {'90 % interval':<15}   ratios of "
        "pairs, before to now"
    )
    for name, path in (FIGURES | SHOWN).items():
        before, now = ([of(step, path) for step in steps] for steps in zip(*pairs, strict=True))
        ratios = [after / earlier for earlier, after in zip(before, now, strict=True)]
        if any(map(math.isnan, ratios)):
            continue
        low, high = interval(ratios)
        bad = name in FIGURES and got_worse(ratios)
        worse = worse or bad
        print(
            f"{name:<18}{statistics.median(before):>10.1f}{statistics.median(now):>10.1f}"
            f"{statistics.median(ratios):>8.3f}"
            f"   {f'{low:.3f} to {high:.3f}':<15}   "
            f"{' '.join(f'{ratio:.2f}' for ratio in ratios)}{'   WORSE' if bad else ''}"
        )
    return worse


def main() -> None:
    """Entry of `scripts/bench compare`."""
    parser = argparse.ArgumentParser(
        "scripts/bench compare",
        usage="%(prog)s [--pairs N] REVISION [--cold-start | [--shared-stores] -- OPTIONS of "
        "scripts/load]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("revision", help="the commit to compare with")
    parser.add_argument(
        "--pairs",
        type=int,
        default=8,
        help="runs of each (default 8), after one that is not counted",
    )
    parser.add_argument(
        "--cold-start",
        action="store_true",
        help="compare `scripts/bench cold-start` instead of scripts/load",
    )
    parser.add_argument(
        "--shared-stores",
        action="store_true",
        help="with --real: both run on the stores of this checkout, which have to fit both",
    )
    # argparse takes what stands behind -- for its own where an option stands before it.
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    options, load = parser.parse_args(words[:at]), words[at + 1 :]
    if options.pairs < 1:
        parser.error("--pairs is 1 or more")
    if options.cold_start and load:
        parser.error("--cold-start takes no options of scripts/load")
    base = checked_out(options.revision)
    if options.shared_stores:
        share_stores(base)

    def run(checkout: Path) -> list[dict[str, Any]]:
        return started(checkout) if options.cold_start else measured(checkout, load)

    for checkout in (base, _ROOT):
        run(checkout)
    pairs = []
    for number in range(options.pairs):
        # The second run finds the machine warmer: by turns.
        order = (base, _ROOT) if number % 2 == 0 else (_ROOT, base)
        steps = {checkout: run(checkout) for checkout in order}
        pairs.append((steps[base], steps[_ROOT]))
    print(file=sys.stderr)
    what = "scripts/bench cold-start" if options.cold_start else f"scripts/load {' '.join(load)}"
    print(f"{what}, {options.pairs} pairs, beside {options.revision}")
    worse = (
        sum(
            show([(before[step], now[step]) for before, now in pairs])
            for step in range(len(pairs[0][0]))
        )
        > 0
    )
    print(
        "worse than before"
        if worse
        else f"no figure got worse: a median ratio of at most {LIMIT}, or {LIMIT} within its "
        "interval"
    )
    sys.exit(int(worse))


if __name__ == "__main__":
    main()
