"""A real Kubernetes API server for tests: etcd and kube-apiserver on this machine, with RBAC and no nodes."""

import csv
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rehearsal.tools import Toolbox
from runtime.cluster import Access, ClusterApi, ClusterError

_ADMIN = "administrator-of-a-test"
_START_S = 180.0


class ApiServer:
    """One running API server; use it in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tools = Toolbox.load(["site"])
        etcd, peer, self.port = (_free_port() for _ in range(3))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private, public = folder / "sa.key", folder / "sa.pub"
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        tokens = folder / "tokens.csv"
        with tokens.open("w", newline="") as file:
            csv.writer(file).writerow([_ADMIN, "admin", "admin", "system:masters"])
        issuer = "https://kubernetes.default.svc"
        self._commands = {
            "etcd": [
                tools.path("etcd"),
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{etcd}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
            ],
            "kube-apiserver": [
                tools.path("kube-apiserver"),
                f"--etcd-servers=http://127.0.0.1:{etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.port}",
                f"--cert-dir={folder / 'certificates'}",
                "--authorization-mode=RBAC",
                f"--token-auth-file={tokens}",
                f"--service-account-issuer={issuer}",
                f"--service-account-signing-key-file={private}",
                f"--service-account-key-file={public}",
                "--service-cluster-ip-range=10.96.0.0/24",
                "--disable-admission-plugins=ServiceAccount",
                "--allow-privileged",
            ],
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Its URL; the certificate is its own."""
        return f"https://127.0.0.1:{self.port}"

    def access(self, token: str) -> Access:
        """The access of whoever has a token."""
        return Access(context="test", server=self.url, verify=False, token=token)

    def admin(self) -> ClusterApi:
        """May do everything."""
        return ClusterApi(self.access(_ADMIN))

    def kubeconfig(self, name: str, token: str) -> Path:
        """A kubeconfig of whoever has a token."""
        cluster = f"{{server: {self.url}, insecure-skip-tls-verify: true}}"
        file = self._folder / f"{name}.kubeconfig"
        file.write_text(
            "{apiVersion: v1, kind: Config, current-context: c, "
            f"clusters: [{{name: c, cluster: {cluster}}}], "
            f"users: [{{name: u, user: {{token: {token}}}}}], "
            "contexts: [{name: c, context: {cluster: c, user: u}}]}"
        )
        return file

    def token_of(self, namespace: str, account: str) -> str:
        """A token of a ServiceAccount."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        made = self.admin().write("POST", path, {**kind, "spec": {}})
        assert made is not None
        return str(made["status"]["token"])

    def __enter__(self) -> "ApiServer":
        environment: Mapping[str, str] = {**os.environ}
        for name, command in self._commands.items():
            with (self._folder / f"{name}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env=environment)
                )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                if self.admin().exchange("GET", "/readyz")[0] == 200:
                    return
            except ClusterError:
                pass
            assert time.monotonic() < deadline, (self._folder / "kube-apiserver.log").read_text()[-2000:]
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
