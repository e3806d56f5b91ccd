"""What lives outside us: a port per folder, its promises in `__init__.py`, an adapter per file."""
