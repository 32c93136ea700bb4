"""Prometheus rules that tell of what clients of an overflowing gateway do not: a dead link, a refused key."""

from collections.abc import Mapping

from runtime.gateway.document import Tree, text

ALERTS_FILE = "alerts.yaml"


def alert_groups() -> list[Tree]:
    """Returns the rule groups, as a rule file and a PrometheusRule have them.

    The metrics are those of the gateway's `/stats/prometheus`; they are summed over the pods.
    """
    return [
        {
            "name": "spillway-gateway",
            "rules": [
                _rule(
                    "BurstUnavailable",
                    'max by (model) (envoy_cluster_health_check_healthy{pool="link"}) < 1',
                    minutes=1,
                    severity="critical",
                    summary="No gateway reaches the spill pool of {{ $labels.model }}.",
                    description="The link or the other side is down. On-prem goes on serving; what it cannot "
                    "take gets 429. Look at the link, then at the gateway of the other side.",
                ),
                _rule(
                    "BurstKeyRefused",
                    f"{_answers('401', 'spill')} > 0 or {_answers('401', 'spill', then_tried_on=True)} > 0",
                    minutes=1,
                    severity="critical",
                    summary="The other side refuses this gateway's key for {{ $labels.model }}.",
                    description="Nothing is spilled. Both sides get the key from one stack: run pulumi up.",
                ),
                _rule(
                    "RequestsRefused",
                    f"{_answers('429|503', 'onprem|spill')} > 0",
                    minutes=5,
                    severity="warning",
                    summary="Requests for {{ $labels.model }} have been refused for five minutes.",
                    description="Every server that may take them is full. Ask the burst controller why it "
                    "adds none, or add servers.",
                ),
                _rule(
                    "OnPremUnreachable",
                    'sum by (model) (rate(envoy_cluster_upstream_cx_connect_fail{pool="onprem"}[5m])) > 0',
                    minutes=2,
                    severity="critical",
                    summary="The gateway cannot connect to the own servers of {{ $labels.model }}.",
                    description="What may leave is spilled, and paid for; the rest gets 503.",
                ),
            ],
        }
    ]


def render_alerts() -> dict[str, str]:
    """Returns the rule file for a Prometheus that reads files: file name to YAML text."""
    return {ALERTS_FILE: text({"groups": alert_groups()})}


def _answers(codes: str, pools: str, *, then_tried_on: bool = False) -> str:
    """Answers per second; Envoy counts those after which it tried the other pool under another name."""
    metric = "envoy_cluster_retry_upstream_rq" if then_tried_on else "envoy_cluster_upstream_rq"
    return f'sum by (model) (rate({metric}{{envoy_response_code=~"{codes}",pool=~"{pools}"}}[5m]))'


def _rule(
    name: str, expression: str, *, minutes: int, severity: str, summary: str, description: str
) -> Mapping[str, Tree]:
    return {
        "alert": name,
        "expr": expression,
        "for": f"{minutes}m",
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }
