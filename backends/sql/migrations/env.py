"""What Alembic runs for every command: our revisions on the connection that
`backends.sql.migrations` opened, inside its transaction.
"""

from __future__ import annotations

import logging

from alembic import context

# Its INFO lines tell operators nothing; `migrate` logs one that does.
logging.getLogger("alembic").setLevel(logging.WARNING)

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
