"""Typing and presence: what holds for a moment, and is told as well as it goes.

Presence is not stored: it is what the owner of a user's partition sees of that user's sessions
(`subjects`). A gateway whose sessions watch users (`watchers`) asks their owners, and is told
changes for five minutes, which it renews. What goes between gateways (`mailbox`) takes
session-deliveries. Source: docs/decisions/0059.
"""
