"""What no API server checks: each rule takes the objects of an overlay and yields what is wrong,
in words.

API servers see types and fields, Knative's webhooks some values; the rest is found on the day it
hurts. `test_manifests.py` holds the overlays to these rules and shows of each that it can fail.
"""

from tests.deploy.rules.configuration import (
    every_object_has_its_place,
    functions_are_hidden,
    references_lead_somewhere,
    secrets_stay_out,
    settings_are_taken,
    the_audit_runs,
)
from tests.deploy.rules.events import (
    bindings_say_their_namespace,
    delivery_is_whole,
    gateways_have_partitions_enough,
    kafka_is_one,
    sinks_own_no_topic,
    sources_say_everything,
    topics_are_as_code_expects,
    triggers_are_called,
)
from tests.deploy.rules.pods import (
    containers_are_bounded,
    functions_have_time,
    images_have_our_version,
    no_reserved_names,
    pods_may_do_nothing,
    probes_tell_the_truth,
    scaling_is_legal,
)

RULES = [
    delivery_is_whole,
    sources_say_everything,
    triggers_are_called,
    sinks_own_no_topic,
    bindings_say_their_namespace,
    topics_are_as_code_expects,
    gateways_have_partitions_enough,
    no_reserved_names,
    functions_have_time,
    scaling_is_legal,
    containers_are_bounded,
    images_have_our_version,
    pods_may_do_nothing,
    functions_are_hidden,
    probes_tell_the_truth,
    settings_are_taken,
    the_audit_runs,
    secrets_stay_out,
    kafka_is_one,
    references_lead_somewhere,
    every_object_has_its_place,
]
