"""Envoy itself finds nothing to object to in what is rendered."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.gateway import GatewayConfig, ModelRoute, Overflow, Upstream, render, render_api_keys

from .running_gateway import KEYS, RunningGateway


def _as_one_document(config: GatewayConfig) -> dict[str, Any]:
    """Puts every file into the bootstrap: `--mode validate` does not read what is watched."""
    files = {name: yaml.safe_load(text) for name, text in {**render(config), **render_api_keys(KEYS)}.items()}
    document = files["bootstrap.yaml"]
    del document["dynamic_resources"]
    listeners = files["listeners.yaml"]["resources"]
    for listener in listeners:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        if "rds" in manager:
            del manager["rds"]
            (manager["route_config"],) = files["routes.yaml"]["resources"]
            del manager["route_config"]["@type"]
            (keys,) = files["api_keys.yaml"]["resources"]
            manager["http_filters"] = [
                {"name": one["name"], "typed_config": keys["typed_config"]}
                if "config_discovery" in one
                else one
                for one in manager["http_filters"]
            ]
        del listener["@type"]
    clusters = files["clusters.yaml"]["resources"]
    for cluster in clusters:
        del cluster["@type"]
    document["static_resources"]["listeners"] = listeners
    document["static_resources"]["clusters"] += clusters
    return document


def _validate(envoy: Path, document: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "all.yaml").write_text(yaml.safe_dump(document))
    return subprocess.run(
        [envoy, "--mode", "validate", "--config-path", folder / "all.yaml", "--log-level", "warn"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CONFIGS = {
    "no model": GatewayConfig(models=()),
    "several models": GatewayConfig(
        models=(
            ModelRoute(name="tiny", upstream=Upstream(host="tiny.models.svc.cluster.local", port=8000)),
            ModelRoute(name="org/Llama-3.1_8B", upstream=Upstream(host="10.0.0.7", port=8000)),
            ModelRoute(name="six", upstream=Upstream(host="fd00::7", port=8000)),
        )
    ),
    "both address families": GatewayConfig(models=(), listen_address="::"),
    "overflow": GatewayConfig(
        models=(
            ModelRoute(
                name="org/tiny-1.5",
                upstream=Upstream(host="tiny.models.svc", port=8000),
                spill=Upstream(host="spill.models.svc", port=8443),
            ),
            ModelRoute(name="own", upstream=Upstream(host="10.0.0.7", port=8000)),
        ),
        overflow=Overflow(clients=("a", "b.c"), ready=Upstream(host="burst.models.svc", port=8081)),
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_envoy_accepts_every_rendered_part_without_a_deprecated_one(
    envoy: Path, tmp_path: Path, config: GatewayConfig
) -> None:
    # The key of the spill pool is read when its cluster is made.
    for name, text in render_api_keys(KEYS, spill_key="sk-link-0123456789").items():
        (tmp_path / name).write_text(text)
    config = replace(config, keys_folder=str(tmp_path))
    result = _validate(envoy, _as_one_document(config), tmp_path)
    assert result.returncode == 0, result.stderr
    assert "eprecated" not in result.stderr


def test_the_validation_looks_into_routes_and_clusters(envoy: Path, tmp_path: Path) -> None:
    for part in ("routes", "clusters"):
        document = _as_one_document(CONFIGS["several models"])
        if part == "clusters":
            document["static_resources"]["clusters"][1]["connect_timeout"] = "soon"
        else:
            manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
            routes = manager["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
            routes[-1]["match"] = {"safe_regex": {"regex": "("}}
        assert _validate(envoy, document, tmp_path).returncode != 0


def test_a_running_envoy_rejects_no_file_and_warns_of_nothing(gateway: RunningGateway) -> None:
    lines = [line for line in gateway.metrics().splitlines() if "update_rejected{" in line]
    assert len(lines) == 4, "listeners, routes, clusters, keys"
    assert all(line.endswith(" 0") for line in lines), lines
    assert "deprecated" not in gateway.log.lower()
    assert "rejected" not in gateway.log
