"""The gateway component with a link to a spill pool: what it adds, and what stays as it was."""

from typing import Any

import pulumi
import pytest
import yaml

from components.kubernetes.gateway import Gateway, GatewayArgs, SpillLink, spill_upstream
from runtime.gateway import GatewayConfig, ModelRoute, Overflow, Upstream
from tests.support.synth import Synthesized, generated, synth

LINK_KEY = "sk-link-0123456789abcdef"
OWN = Upstream(host="tiny-serve-svc.llm.svc.cluster.local", port=8000)
CONFIG_MAP, SECRET = "kubernetes:core/v1:ConfigMap", "kubernetes:core/v1:Secret"


def declared(*, spills: bool = True, **changes: Any) -> Synthesized:
    spill = spill_upstream("llm-gateway", "llm", 8443) if spills else None
    config = GatewayConfig(
        models=(ModelRoute(name="tiny", upstream=OWN, spill=spill),), overflow=Overflow(clients=("batch",))
    )

    def program() -> None:
        link = SpillLink(
            host=pulumi.Output.from_input("spill.elb.internal"),
            port=8443,
            key=pulumi.Output.secret(LINK_KEY),
            networks=("10.20.0.0/16",),
        )
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
                link=link if spills else None,
                **changes,
            ),
        )

    return synth(program)


def test_the_other_sides_name_stands_in_a_service_and_not_in_envoys_files() -> None:
    result = declared()
    service = result.one("kubernetes:core/v1:Service", "llm-gateway-spill")
    assert service.inputs["spec"] == {"type": "ExternalName", "externalName": "spill.elb.internal"}
    files = result.one(CONFIG_MAP, "llm-gateway-config").inputs["data"]
    assert "llm-gateway-spill.llm.svc.cluster.local" in files["clusters.yaml"]
    assert "elb.internal" not in str(files)


def test_only_the_gateways_pods_may_go_to_the_other_side_and_only_to_its_port() -> None:
    policy = declared().one("kubernetes:networking.k8s.io/v1:NetworkPolicy").inputs["spec"]
    assert policy["policyTypes"] == ["Egress"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "gateway"
    assert policy["egress"] == [
        {
            "to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}],
            "ports": [{"port": 8443, "protocol": "TCP"}],
        }
    ]


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
    assert {name for _, name in added} == {
        "llm-gateway-spill",
        "llm-gateway-allow-spill",
        "llm-gateway-alerts",
    }


def test_a_spill_pool_without_a_link_is_refused_and_so_is_a_link_without_one() -> None:
    with pytest.raises(ValueError, match="link and the models' spill go together"):
        GatewayArgs(
            platform="llm",
            namespace="llm",
            image="envoy:v1",
            replicas=1,
            service="ClusterIP",
            clients=("a",),
            config=GatewayConfig(models=(ModelRoute(name="tiny", upstream=OWN, spill=OWN),)),
        )
