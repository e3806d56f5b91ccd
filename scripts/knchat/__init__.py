"""The installed command `kn-chat`, a file a subcommand.

The only code that imports both upper rooms.
"""
