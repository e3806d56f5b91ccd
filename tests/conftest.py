"""What all tests share: programs that they start can be interrupted, even when the tests run in
the background; and the real servers and API server.
"""

import signal

import pytest

MAX_REASON = 1_500
"""Characters."""

pytest_plugins = ["tests.support.real", "tests.deploy.cluster"]


def pytest_configure():
    """A shell that runs us in the background has SIGINT ignored, and a program
    would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Each test has two tries: of twelve thousand on a crowded machine, with real servers and
    processes that are killed, one or two need longer than a test waits.

    What fails twice fails. The report's end says why each first try failed: that is to be mended.
    """
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter):
    """A line for each try that failed; of first ones nothing else says what they failed of."""
    for outcome, heading in (("rerun", "AGAIN"), ("failed", "FAILED"), ("error", "ERROR")):
        for report in terminalreporter.getreports(outcome):
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else str(report.longrepr)
            terminalreporter.write_line(
                f"{heading} {report.nodeid} ({report.when}): {' '.join(why.split())[:MAX_REASON]}"
            )
