"""Typing and presence: ephemeral, in no history and without a cursor, told as well as it goes.

Presence is not stored: it is what the owner of a user's partition sees of that user's sessions
(`subjects`). A gateway whose sessions watch users (`watchers`) asks their owners, and is told
changes for five minutes, which it renews. Typing is a notification to other users
(`notifications`). What goes between gateways takes session-deliveries (`ephemeral_batcher`).
Source: docs/decisions/0059.
"""
