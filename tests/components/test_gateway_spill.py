"""The gateway component with a spill pool: what it adds, and what stays as it was."""

from typing import Any

import pulumi
import pytest
import yaml

from components.kubernetes.gateway import Gateway, GatewayArgs
from runtime.gateway import GatewayConfig, ModelRoute, Overflow, Upstream
from tests.support.synth import Synthesized, generated, synth

LINK_KEY = "sk-link-0123456789abcdef"
OWN = Upstream(host="tiny-serve-svc.llm.svc.cluster.local", port=8000)
ELSEWHERE = Upstream(host="llm-spill.llm.svc.cluster.local", port=8443)
CONFIG_MAP, SECRET = "kubernetes:core/v1:ConfigMap", "kubernetes:core/v1:Secret"


def declared(*, spills: bool = True, **changes: Any) -> Synthesized:
    config = GatewayConfig(
        models=(ModelRoute(name="tiny", upstream=OWN, spill=ELSEWHERE if spills else None),),
        overflow=Overflow(clients=("batch",)),
    )

    def program() -> None:
        Gateway(
            "llm-gateway",
            GatewayArgs(
                platform="llm",
                namespace="llm",
                image="envoy:v1",
                replicas=2,
                service="ClusterIP",
                clients=("chat", "batch"),
                config=config,
                spill_key=pulumi.Output.secret(LINK_KEY) if spills else None,
                **changes,
            ),
        )

    return synth(program)


def test_the_links_key_is_in_envoys_secret_only() -> None:
    result = declared()
    holders = [one.name for one in result.resources if LINK_KEY in str(one.inputs)]
    assert holders == ["llm-gateway-envoy-keys"]
    keys = str(result.one(SECRET, "llm-gateway-envoy-keys").inputs)
    assert generated("llm-gateway-key-chat", 40) in keys


def test_the_alerts_are_a_rule_file_or_by_switch_a_prometheus_rule() -> None:
    rule_file = declared().one(CONFIG_MAP, "llm-gateway-alerts").inputs["data"]["alerts.yaml"]
    rule = declared(prometheus_rule=True).one("kubernetes:monitoring.coreos.com/v1:PrometheusRule")
    assert yaml.safe_load(rule_file)["groups"] == rule.inputs["spec"]["groups"]
    assert "BurstUnavailable" in rule_file
    assert not declared().of("kubernetes:monitoring.coreos.com/v1:PrometheusRule")


def test_without_a_spill_pool_nothing_is_added() -> None:
    kinds = {(one.type, one.name) for one in declared(spills=False).resources}
    added = {(one.type, one.name) for one in declared().resources} - kinds
    assert {name for _, name in added} == {"llm-gateway-alerts"}
    files = declared(spills=False).one(CONFIG_MAP).inputs["data"]
    assert "custom_response" not in str(files)
    assert "tiny/spill" not in str(files)


@pytest.mark.parametrize(("spill", "key"), [(ELSEWHERE, None), (None, LINK_KEY)])
def test_a_spill_pool_and_its_key_go_together(spill: Upstream | None, key: str | None) -> None:
    with pytest.raises(ValueError, match="spill_key and the models' spill go together"):
        GatewayArgs(
            platform="llm",
            namespace="llm",
            image="envoy:v1",
            replicas=1,
            service="ClusterIP",
            clients=("a",),
            config=GatewayConfig(models=(ModelRoute(name="tiny", upstream=OWN, spill=spill),)),
            spill_key=key,
        )
