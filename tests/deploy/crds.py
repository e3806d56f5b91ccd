"""Objects against the schemas that an API server would hold them to, strictly: a field that the
schema does not have is an error.

Knative's, Strimzi's and gateway-api's kinds by the definitions themselves, Kubernetes' own by the
package kubernetes-validate.
"""

import copy
import functools

import jsonschema
import kubernetes_validate
import yaml

from clusters import definitions
from tests.deploy.cluster import unless_had

KUBERNETES = "1.34"


def mistakes(thing):
    """What is wrong with an object, line by line."""
    schema = _schemas().get((thing["apiVersion"], thing["kind"]))
    if schema is None:
        try:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            return [_line(thing, error)]
        except kubernetes_validate.SchemaNotFoundError as error:
            return [f"{thing['kind']}: {error.message}"]
        return []
    return [
        _line(thing, error) for error in jsonschema.Draft202012Validator(schema).iter_errors(thing)
    ]


def _line(thing, error):
    return (
        f"{thing['kind']} {thing['metadata']['name']}: "
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
    )


@functools.cache
def _schemas():
    """Version and kind -> schema.

    Without the definitions the test is left out with the reason; in CI it fails.
    """
    found = {}
    for text in unless_had(definitions.texts).values():
        spec = yaml.safe_load(text)["spec"]
        for version in spec["versions"]:
            schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
            _close(schema)
            schema["properties"] |= {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
            }
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def _close(schema):
    """What an API server drops, or refuses with --validate=strict, is an error; a number or a text
    may be either, where it says so.
    """
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if (
        "properties" in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
        and "additionalProperties" not in schema
    ):
        schema["additionalProperties"] = False
    for part in (
        *schema.get("properties", {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ):
        if isinstance(part, dict):
            _close(part)
