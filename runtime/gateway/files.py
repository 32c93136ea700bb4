"""The files of a gateway, and the command line of the Envoy that reads them."""

from collections.abc import Mapping, Sequence

from runtime.gateway.bootstrap import CLUSTERS_FILE, LISTENERS_FILE, bootstrap_file
from runtime.gateway.clusters import clusters_file
from runtime.gateway.config import GatewayConfig
from runtime.gateway.keys import KEYS_FILE, check_key, keys_file
from runtime.gateway.listeners import ROUTES_FILE, listeners_file
from runtime.gateway.overflow import SPILL_KEY_FILE, spill_key_file
from runtime.gateway.routes import routes_file
from runtime.gateway.tls import CERTIFICATE_FILE, certificate_file

BOOTSTRAP_FILE = "bootstrap.yaml"


def render(config: GatewayConfig) -> dict[str, str]:
    """Returns the files of the gateway's configuration, to be mounted at `config.config_folder`.

    `bootstrap.yaml` is read once; a change of it needs a restart. The others are read again when
    the folder's symbolic link is swapped, as Kubernetes does for a ConfigMap: `routes.yaml` and
    `clusters.yaml` change with the models and cut no stream; a change of `listeners.yaml` asks
    clients to reconnect and cuts what still runs after `config.drain_s`.

    Returns:
        File name to YAML text; the same bytes for equal configurations.
    """
    folder = config.certificate_folder
    return {
        BOOTSTRAP_FILE: bootstrap_file(config),
        LISTENERS_FILE: listeners_file(config),
        ROUTES_FILE: routes_file(config),
        CLUSTERS_FILE: clusters_file(config),
        **({} if folder is None else {CERTIFICATE_FILE: certificate_file(folder)}),
    }


def render_api_keys(
    keys: Mapping[str, str | Sequence[str]], *, spill_key: str | None = None
) -> dict[str, str]:
    """Returns the files with keys, to be mounted at `config.keys_folder`.

    They hold the keys themselves and belong in a Secret. A swapped link makes it effective without
    a restart. With no client at all everybody is refused.

    Args:
        keys: Client name to its key, or to its keys while one replaces the other.
        spill_key: The key that the spill pool's own gateway knows this one by. A gateway that spills waits
            for it before it opens its port.

    Returns:
        File name to YAML text.

    Raises:
        ValueError: If a name or a key cannot be one, or a key is there twice. No message holds a key.
    """
    files = {KEYS_FILE: keys_file(keys)}
    if spill_key is not None:
        check_key("the key of the spill pool", spill_key)
        files[SPILL_KEY_FILE] = spill_key_file(spill_key)
    return files


def arguments(config: GatewayConfig) -> tuple[str, ...]:
    """Returns the arguments with which Envoy runs this configuration, without the program's name.

    SIGTERM ends Envoy at once, with its streams. A pod therefore needs a preStop sleep, in which the
    Service forgets it and streams end, and a grace period that is longer.
    """
    return (
        "--config-path",
        f"{config.config_folder}/{BOOTSTRAP_FILE}",
        "--concurrency",
        str(config.concurrency),
        "--drain-time-s",
        str(config.drain_s),
        # One process per container: nothing to hand over to, and no shared memory to need.
        "--disable-hot-restart",
        "--log-level",
        "warn",
        # The default holds a line of the access log back for up to ten seconds.
        "--file-flush-interval-msec",
        "500",
        # `misc` repeats at every start and reload that api_key_auth's API is not declared stable.
        # `config` prints the keys in a keys file that it rejects; the metrics *_update_rejected tell
        # of rejected files instead.
        "--component-log-level",
        "misc:error,config:error",
    )
