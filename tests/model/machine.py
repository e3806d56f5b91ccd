"""All rules together."""

from __future__ import annotations

from tests.model.rules_changes import ChangeRules
from tests.model.rules_faults import LineRules, LogInRules, RestartRules
from tests.model.rules_groups import GroupRules
from tests.model.rules_messages import MarkRules, MessageRules


class Machine(
    MessageRules, ChangeRules, MarkRules, GroupRules, LineRules, LogInRules, RestartRules
):
    """Several users on several devices do what is served today; faults come in between."""
