"""What reads the wall clock, which may be set, stands in a table with its reason: everything else
goes by backends/clock.py.
"""

import re
from pathlib import Path

from tests.support.pages import ROOT, rows

_ROOMS = ("backends", "clients", "functions", "gateway", "schemas", "scripts")
_READS = re.compile(
    r"\btime\.time\b|time_ns\(|CLOCK_REALTIME|from time "
    r"import|gmtime|localtime|\.now\(|utcnow|\.today\(|formatdate\("
    r"|record\.created|time\.ctime|time\.strftime"
    r"|CURRENT_TIME|clock_timestamp|\bnow\(\)|julianday|func\.now|'TIME'"
)
_NOT_THE_TIME = re.compile(
    r"monotonic_ns\(|clock_gettime_ns\(|process_time_ns\(|thread_time_ns\(|perf_counter_ns\("
)


def reading_files(root):
    return {
        str(path.relative_to(root))
        for room in _ROOMS
        for path in sorted(Path(root, room).rglob("*.py"))
        if _READS.search(_NOT_THE_TIME.sub("", path.read_text()))
    }


def test_what_reads_the_wall_clock_stands_in_the_table():
    """A new one needs a reason; nothing that orders, expires or refuses has one."""
    listed = {file.strip("`"): why for file, why in rows("docs/clocks.md", "Wall clock")}

    assert reading_files(ROOT) == set(listed)
    assert all(listed.values())


def test_the_search_finds_them(tmp_path):
    """In Python and in SQL, and not what only looks like it."""
    lines = [
        "time.time()",
        "wall = time.time",
        "time.time_ns() // 1000",
        "datetime.now(UTC)",
        '"SELECT now()"',
        '"DEFAULT CURRENT_TIMESTAMP"',
    ]
    (tmp_path / "backends").mkdir()
    for number, line in enumerate([*lines, "time.monotonic_ns()", "clock.now_ms()", "loop.time()"]):
        (tmp_path / "backends" / f"{number}.py").write_text(line)

    assert reading_files(tmp_path) == {f"backends/{number}.py" for number in range(len(lines))}
