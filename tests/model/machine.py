"""All rules together."""

from __future__ import annotations

from tests.model.rules_changes import ChangeRules
from tests.model.rules_faults import LineRules, LogInRules, RestartRules
from tests.model.rules_groups import GroupRules
from tests.model.rules_messages import MarkRules, MessageRules
from tests.model.rules_preferences import PreferenceRules
from tests.model.rules_relations import RelationRules
from tests.model.rules_search import SearchRules


class Machine(
    MessageRules,
    ChangeRules,
    MarkRules,
    GroupRules,
    RelationRules,
    PreferenceRules,
    SearchRules,
    LineRules,
    LogInRules,
    RestartRules,
):
    """Several users on several devices do what is served today; faults come in between."""
