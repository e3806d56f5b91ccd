"""The three servers of a Kubernetes control plane: etcd, the API server, and the controllers that
Kubernetes itself brings.

There is no scheduler and no kubelet: pods are made and stay Pending. The kubeconfig lets its holder
do everything.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from typing import Final

from clusters.api import Api, ApiFailed, write_kubeconfig
from servers.modules import Built
from servers.packages import ETCD as ETCD_SERVER
from servers.packages import program
from servers.place import HOST, Failed, Place, write_whole
from servers.server import NotReady, Server

# Without these a server of one's own building calls itself v0.0.0-master, and `kubectl version`
# fails on that.
_FLAGS: Final = (
    "-s -w -X k8s.io/component-base/version.gitVersion={version} -X "
    "k8s.io/component-base/version.gitMajor=1"
    " -X k8s.io/component-base/version.gitMinor=34"
)
API_SERVER: Final = Built(
    "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes", "4 minutes", _FLAGS
)
CONTROLLERS: Final = Built(
    "kubernetes",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    "k8s.io/kubernetes",
    "a minute",
    _FLAGS,
)


def _prepare_etcd(place: Place) -> list[str]:
    own = f"http://{HOST}:{place.port('peers')}"
    return [
        str(ETCD_SERVER.path()),
        f"--data-dir={place.folder / 'data'}",
        f"--listen-client-urls=http://{place.address}",
        f"--advertise-client-urls=http://{place.address}",
        f"--listen-peer-urls={own}",
        f"--initial-advertise-peer-urls={own}",
        f"--initial-cluster=default={own}",
        "--unsafe-no-fsync",  # its data is a test's
        "--logger=zap",
        "--log-level=warn",
    ]


def _check_etcd(place: Place) -> None:
    asked = http.client.HTTPConnection(HOST, place.port(), timeout=3)
    try:
        asked.request("GET", "/health")
        answer = json.loads(asked.getresponse().read())
    except (http.client.HTTPException, ValueError) as error:
        raise NotReady(str(error)) from error
    finally:
        asked.close()
    if answer.get("health") != "true":
        raise NotReady(str(answer))


def _prepare_api_server(place: Place) -> list[str]:
    etcd = Place(place.services, "etcd", secure=False)
    key = place.folder / "accounts.key"
    if not key.exists():
        write_whole(key, _new_key())
    certificates = place.folder / "certificates"
    token = place.password("admin")
    write_kubeconfig(
        place.folder.parent / "kubeconfig",
        server=f"https://{place.address}",
        authority=certificates / "apiserver.crt",
        token=token,
    )
    return [
        str(API_SERVER.path()),
        f"--etcd-servers=http://{etcd.address}",
        f"--secure-port={place.port()}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--cert-dir={certificates}",
        f"--service-account-issuer=https://{place.address}",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--token-auth-file={place.write('tokens.csv', f'{token},admin,admin,system:masters')}",
        "--authorization-mode=RBAC",
    ]


def _check_api_server(place: Place) -> None:
    try:
        Api(place.folder.parent / "kubeconfig").call("GET", "/readyz")
    except ApiFailed as error:
        raise NotReady(str(error)) from error


def _new_key() -> str:
    openssl = program("openssl")
    if openssl is None:
        raise Failed("openssl is missing; on Debian or Ubuntu: apt-get install openssl", 3)
    return subprocess.run(
        [openssl, "genrsa", "2048"], capture_output=True, text=True, check=True
    ).stdout


def _prepare_controllers(place: Place) -> list[str]:
    api_server = Place(place.services, "kube-apiserver", secure=False)
    return [
        str(CONTROLLERS.path()),
        f"--kubeconfig={place.folder.parent / 'kubeconfig'}",
        f"--secure-port={place.port()}",
        f"--bind-address={HOST}",
        f"--cert-dir={place.folder / 'certificates'}",
        f"--service-account-private-key-file={api_server.folder / 'accounts.key'}",
        f"--root-ca-file={api_server.folder / 'certificates' / 'apiserver.crt'}",
        # Both of these want a cloud or a network of nodes.
        "--controllers=*,-nodeipam,-cloud-node-lifecycle",
        "--leader-elect=false",
    ]


def _check_controllers(place: Place) -> None:
    """They run once every new namespace is given its account, without which no pod can be made."""
    try:
        Api(place.folder.parent / "kubeconfig").call(
            "GET", "/api/v1/namespaces/default/serviceaccounts/default"
        )
    except ApiFailed as error:
        raise NotReady(str(error)) from error


def _environment(place: Place) -> dict[str, str]:
    return {"KUBECONFIG": str(place.folder.parent / "kubeconfig")}


CONTROL_PLANE: Final = {
    server.name: server
    for server in (
        Server(
            "etcd",
            ports=("client", "peers"),
            packages=lambda: (ETCD_SERVER,),
            prepare=_prepare_etcd,
            check=_check_etcd,
            settings=lambda _: {},
        ),
        Server(
            "kube-apiserver",
            ports=("client",),
            packages=lambda: (),
            prepare=_prepare_api_server,
            check=_check_api_server,
            settings=_environment,
        ),
        Server(
            "kube-controller-manager",
            ports=("client",),
            packages=lambda: (),
            prepare=_prepare_controllers,
            check=_check_controllers,
            settings=lambda _: {},
        ),
    )
}
"""In the order of their start."""
