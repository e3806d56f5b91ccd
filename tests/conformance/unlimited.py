"""Settings of a server whose budgets are as good as none: what is looked for is not how much one
may ask for.
"""

from typing import Final

UNLIMITED: Final = {
    f"KNCHAT_{name}": str(10**9)
    for name in (
        "USER_UNITS",
        "USER_UNITS_PER_S",
        "DEVICE_UNITS",
        "LOGINS_PER_MINUTE",
        "FAILED_LOGINS_PER_MINUTE",
    )
}
