"""`python -m gateway` on topics and a group of a test's own: the prefix is the one argument.

Not a test.
"""

import functools
import sys

from backends.log.kafka import brokers as kafka_brokers
from gateway.__main__ import main

if __name__ == "__main__":
    kafka_brokers.Brokers = functools.partial(kafka_brokers.Brokers, prefix=sys.argv[1])
    sys.exit(main())
