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


def pytest_collection_modifyitems(config, items):
    """A test that needs real servers has two tries: on a crowded machine they now and then need
    longer than a test waits.

    So has one that starts the product itself: once in a hundred times it did not end within a
    minute. One cause of that is mended (tests/gateway/test_parts.py); should there be another, the
    error holds what its threads were doing. What fails twice fails; the report's end says why it
    did the first time.
    """
    for item in items:
        needs = {"cluster", "own_dev"} & set(item.fixturenames)
        if item.get_closest_marker("real") or needs or config.getoption("--real", default=False):
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
