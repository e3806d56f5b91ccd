"""What all tests share: programs that they start can be interrupted, whoever started the tests; and the real servers and API server."""

import signal

pytest_plugins = ["tests.real", "tests.deploy.cluster"]


def pytest_configure():
    """A shell that runs us in the background has SIGINT ignored, and a program would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
