"""Where the hub is, and who we are there: a URL, a kubeconfig, or the cluster around us."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from twinbridge.errors import HubUnavailable, InvalidInput

IN_CLUSTER = "in-cluster"
DEFAULT = "default"
"""The namespace where nobody names one."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Either `url`, or `kubeconfig`."""

    url: str = ""
    kubeconfig: Path | None = None
    namespace: str = DEFAULT
    token_file: Path | None = None
    ca_file: Path | None = None

    def __str__(self) -> str:
        return self.url or str(self.kubeconfig)


def parse_where(
    where: str, namespace: str | None, token_file: Path | None, ca_file: Path | None
) -> HubAddress:
    """Of `--hub`; without a namespace the one that the kubeconfig's context, or the pod's service
    account, names. Raises InvalidInput.
    """
    if where == IN_CLUSTER:
        return _in_cluster(namespace)
    if where.startswith(("http://", "https://")):
        return HubAddress(where.rstrip("/"), None, namespace or DEFAULT, token_file, ca_file)
    path = Path(where)
    if not path.is_file():
        raise InvalidInput(
            f"--hub {where}: neither a URL (http://…, https://…), nor a kubeconfig that is there,"
            f" nor {IN_CLUSTER}"
        )
    return HubAddress("", path, namespace or _namespace_of(path), token_file, ca_file)


def _namespace_of(kubeconfig: Path) -> str:
    """Never a guess: in another namespace all would be missing, and that is how deleted looks."""
    try:
        found = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        contexts = {one["name"]: one["context"] for one in found["contexts"]}
        return str(contexts[found["current-context"]].get("namespace") or DEFAULT)
    except OSError as error:
        raise InvalidInput(f"--hub {kubeconfig}: {error.strerror}") from None
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError):
        # Their texts show what stands in the file, a token among it.
        raise InvalidInput(
            f"--hub {kubeconfig}: it is no kubeconfig with a current context; an example is"
            " what `kubectl config view` shows"
        ) from None


def _in_cluster(namespace: str | None) -> HubAddress:
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        os.environ.get("KUBERNETES_SERVICE_PORT"),
    )
    if not host or not port:
        raise InvalidInput(f"--hub {IN_CLUSTER}: this process runs in no cluster")
    host = f"[{host}]" if ":" in host else host
    own = ACCOUNT / "namespace"
    if namespace is None and own.is_file():
        namespace = own.read_text(encoding="utf-8").strip()
    return HubAddress(
        f"https://{host}:{port}", None, namespace or DEFAULT, ACCOUNT / "token", ACCOUNT / "ca.crt"
    )


async def configuration(address: HubAddress) -> Configuration:
    """For the client. Raises HubUnavailable while the files cannot be read."""
    found = Configuration()
    try:
        if address.kubeconfig is not None:
            await load_kube_config(
                str(address.kubeconfig), client_configuration=found, persist_config=False
            )
        else:
            found.host = address.url
        if address.ca_file is not None:
            found.ssl_ca_cert = str(address.ca_file)
    except (yaml.YAMLError, LookupError, TypeError) as error:
        # Their texts show what stands in the file, a token among it.
        raise HubUnavailable(f"{address}: it is no kubeconfig") from error
    except (OSError, ConfigException, ValueError) as error:
        raise HubUnavailable(f"{address}: {error}") from error
    return found


def identity(found: Configuration) -> tuple[object, ...]:
    """What makes a difference to the hub or to TLS; the files of inline certificates are named
    after what is in them.
    """
    return (
        found.host,
        found.api_key.get("BearerToken"),
        found.cert_file,
        found.key_file,
        found.ssl_ca_cert,
    )


class Token:
    """Read again when its file has changed: tokens rotate."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._header = ""
        self._seen: tuple[int, int, int] | None = None

    def header(self) -> str:
        """`Bearer …`, or ''. Raises HubUnavailable while the file cannot be read."""
        if self._file is None:
            return self._header
        try:
            stat = self._file.stat()
            if (stat.st_mtime_ns, stat.st_size, stat.st_ino) != self._seen:
                token = self._file.read_text(encoding="ascii").strip()
                if not token.isprintable() or not token:
                    raise HubUnavailable(f"the hub's token {self._file}: it is no line of text")
                self._header = f"Bearer {token}"
                self._seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no line of text"
            raise HubUnavailable(f"the hub's token {self._file}: {why}") from None
        return self._header

    def forget(self) -> None:
        """The hub did not take it: look again."""
        self._seen = None
