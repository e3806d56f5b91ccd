"""What a developer runs: the whole product on one machine, and the parts of it that Knative brings
elsewhere.
"""

import sys


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(f"kn-chat: {text}", file=sys.stderr, flush=True)
