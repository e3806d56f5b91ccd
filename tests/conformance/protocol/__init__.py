"""docs/protocol.md against any server that speaks it: an independent client, and a case for each
rule.

Nothing of kn-chat is imported: another implementation can be held to the page by this suite.
"""
