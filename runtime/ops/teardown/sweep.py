"""Looks for leftovers in AWS: each service is asked itself, by the stack's tags, derived tags and known ids.

The tagging API is a hint only: it names things that are gone for hours, and misses things without tags. What
it names and the service itself does not is a ghost if the service was asked, and unproven if it was not.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.ops.teardown.account import Clients
from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.findings import Finding, Look, Tags
from runtime.ops.teardown.ledger import Cloud
from runtime.ops.teardown.questions import OF_CLUSTERS, QUESTIONS
from runtime.tenure import STACK_TAG


class CloudSweep(AskedCloud):
    """Everything that is asked of one account and region.

    Args:
        cloud: What the stack had there.
        clients: How to ask.
    """

    def __init__(self, cloud: Cloud, clients: Clients) -> None:
        super().__init__(cloud, clients)
        self._asked: set[str] = set()

    def looks(self) -> Iterator[Look]:
        """Asks every service, one after the other; a refusal of one is an answer too."""
        for service, query, ask in QUESTIONS:
            if service in OF_CLUSTERS and not self.cloud.clusters:
                continue
            look = self._look(service, query, lambda ask=ask: list(ask(self)))
            if not look.problem:
                self._asked.add(service)
            yield look
        yield self._look("resourcegroupstaggingapi", "what bears the stack's tags", self._hints)

    def _look(self, service: str, query: str, ask: Callable[[], Sequence[Finding]]) -> Look:
        try:
            return Look(service=service, where=self.where, query=query, findings=tuple(ask()))
        except ClientError as error:
            answer: dict[str, Any] = error.response
            told: dict[str, str] = answer["Error"]
            problem = f"{told.get('Code', '')}: {told.get('Message', '')}".strip(": ") or str(error)
        except BotoCoreError as error:
            # No endpoint in the region, no credentials, no network.
            problem = str(error)
        return Look(service=service, where=self.where, query=query, problem=problem[:300])

    def _hints(self) -> list[Finding]:
        found: list[Finding] = []
        tags: list[dict[str, Any]] = [
            {"Key": f"kubernetes.io/cluster/{name}"} for name in self.cloud.clusters
        ]
        if self.cloud.stack:
            tags.append({"Key": STACK_TAG, "Values": [self.cloud.stack]})
        for tag in tags:
            for item in self.pages(
                "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=[tag]
            ):
                arn, bears = str(item["ResourceARN"]), Tags.read(item.get("Tags"))
                if STACK_TAG in bears.of and not self.is_ours(bears):
                    continue
                service = arn.split(":")[2]
                asked = _SERVICE_OF_ARN.get(service, service) in self._asked
                if not asked or _resource(arn) not in _KINDS_ASKED.get(service, {_resource(arn)}):
                    found.append(self.find(service, arn, "named by the tagging API, and not looked at"))
        return found


_SERVICE_OF_ARN = {"elasticloadbalancing": "elbv2", "elasticfilesystem": "efs"}
_KINDS_OF_EC2 = frozenset(
    [
        "customer-gateway",
        "elastic-ip",
        "instance",
        "internet-gateway",
        "launch-template",
        "natgateway",
        "network-interface",
        "placement-group",
        "route-table",
        "security-group",
        "security-group-rule",
        "snapshot",
        "subnet",
        "volume",
        "vpc",
        "vpc-endpoint",
        "vpc-flow-log",
        "vpn-connection",
        "vpn-gateway",
    ]
)
"""Kinds of EC2's ARNs that are asked for, or that outlive no VPC or group and for which nothing is paid."""
_KINDS_OF_SAGEMAKER = frozenset(
    [
        "endpoint",
        "endpoint-config",
        "inference-component",
        "model",
        "model-package",
        "model-package-group",
        "notebook-instance",
        "processing-job",
        "training-job",
        "transform-job",
    ]
)
"""Kinds of SageMaker's ARNs that are asked for. Jobs that have ended stay on record for ever."""
_KINDS_ASKED = {"ec2": _KINDS_OF_EC2, "sagemaker": _KINDS_OF_SAGEMAKER}


def _resource(arn: str) -> str:
    return arn.split(":", 5)[-1].partition("/")[0]
