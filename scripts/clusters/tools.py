"""Programs that speak to a cluster: kubectl and terraform as they are on PATH, and kn and a
Terraform provider that are built here.

Each is there or says why not, and how to get it; nothing here is needed for `scripts/cluster up`.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from servers.modules import Built
from servers.packages import MISSING, cache, program
from servers.place import Failed, write_whole

_KN: Final = Built("kn", "knative.dev/client/cmd/kn", "knative.dev/client", "2 minutes")
_PROVIDER: Final = Built(
    "provider",
    "github.com/gavinbunney/terraform-provider-kubectl",
    "github.com/gavinbunney/terraform-provider-kubectl",
    "2 minutes",
)

_RC: Final = """\
provider_installation {{
  filesystem_mirror {{
    path    = "{mirror}"
    include = ["registry.terraform.io/gavinbunney/kubectl"]
  }}
  direct {{
    exclude = ["registry.terraform.io/gavinbunney/kubectl"]
  }}
}}
"""


def kubectl() -> Path:
    """From PATH."""
    return _on_path(
        "kubectl",
        "https://kubernetes.io/docs/tasks/tools has it, and packages for apt at pkgs.k8s.io",
    )


def terraform() -> Path:
    """From PATH."""
    return _on_path(
        "terraform",
        "https://developer.hashicorp.com/terraform/install has it, and packages for apt",
    )


def kn() -> Path:
    """From PATH, else built (2 minutes, once). Failed where its modules are not served."""
    return program("kn") or _KN.path()


def terraform_config() -> Path:
    """A file for TF_CLI_CONFIG_FILE, with which `terraform init` finds the provider
    gavinbunney/kubectl without a registry.

    The provider is built at the first call (2 minutes), and laid where Terraform looks for a
    mirror's.
    """
    mirror = cache() / "terraform"
    version = _PROVIDER.version
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"terraform-provider-kubectl_{version}"
    path = (
        mirror
        / "registry.terraform.io/gavinbunney/kubectl"
        / version.removeprefix("v")
        / f"linux_{machine}"
        / name
    )
    if not path.exists():
        built = _PROVIDER.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{name}.{os.getpid()}")
        shutil.copy2(built, part)
        part.replace(path)
    config = mirror / "terraform.rc"
    text = _RC.format(mirror=mirror)
    if not config.exists() or config.read_text() != text:
        write_whole(config, text)
    return config


TOOLS: Final[Mapping[str, Callable[[], Path]]] = {
    "kubectl": kubectl,
    "terraform": terraform,
    "terraform-config": terraform_config,
    "kn": kn,
}
"""What `scripts/cluster tools` names."""


def _on_path(name: str, how: str) -> Path:
    found = program(name)
    if found is None:
        raise Failed(f"{name} is missing: {how}", MISSING)
    return found
