"""Terraform without a registry: copies of `terraform/` in which init, validate and test work
offline.

The provider kubectl is the real one, built from its Go module (clusters.tools). The provider helm
cannot be built so, and nothing else than files named helm.tf needs it: in a copy a stub takes their
place, and no other file asks for it.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from clusters.tools import TOOLS
from tests.deploy.cluster import unless_had

ROOT = Path(__file__).parents[2]
STACKS = ROOT / "terraform"

_STUB = 'resource "terraform_data" "operators" {\n  input = {}\n}\n'
_NO_HELM = (
    ("versions.tf", re.compile(r"^ +helm = \{[^}]*\}\n", re.MULTILINE)),
    ("*.tftest.hcl", re.compile(r'^mock_provider "helm" \{\}\n', re.MULTILINE)),
)


def tool(name):
    """The path of a tool of `scripts/cluster tools`, or the test is left out."""
    return unless_had(TOOLS[name])


class Terraform:
    """The program, in one copy of the stacks."""

    def __init__(self, copy):
        self.terraform = tool("terraform")
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TF_", "KUBE"))
        } | {
            "TF_CLI_CONFIG_FILE": str(tool("terraform-config")),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }
        self.copy = copy

    def __call__(self, stack, *words, code=0, timeout_s=600, stdin=None, **variables):
        """What `terraform WORDS` prints in a folder of the copy; fails the test when it ends with
        another exit code.
        """
        given = [f"-var={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [self.terraform, *words, "-no-color", *given],
            cwd=self.copy / "terraform" / stack,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == code, (
            f"terraform {words[0]} in {stack} ended with "
            f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout + done.stderr

    def init(self, stack):
        """Offline: from the mirror."""
        return self(stack, "init", "-input=false")


def copied(folder):
    """`terraform/` and `knative/` in a folder, without helm and without what a developer's own init
    has left.
    """
    shutil.copytree(
        STACKS,
        folder / "terraform",
        ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "kubeconfig"),
    )
    shutil.copytree(ROOT / "knative", folder / "knative")
    for pattern, helm in _NO_HELM:
        for path in (folder / "terraform").rglob(pattern):
            path.write_text(helm.sub("", path.read_text()))
    for path in (folder / "terraform").rglob("helm.tf"):
        path.write_text(_STUB)
    return folder
