"""The questions about a gateway beside endpoints: ECS with what runs there, and secrets."""

from collections.abc import Iterator

from runtime.ops.teardown.asked_cloud import AskedCloud
from runtime.ops.teardown.findings import Finding, Tags
from runtime.pricing import SECRETS_MANAGER

CLUSTER = "aws:ecs/cluster:Cluster"
_TASKS_AT_ONCE = 100


def container_clusters(sweep: AskedCloud) -> Iterator[Finding]:
    """ECS clusters, with the services and the running tasks on them."""
    for arn in _our_clusters(sweep):
        yield sweep.find("ECS cluster", arn, billed=False)
        for service in sweep.pages("ecs", "list_services", "serviceArns", cluster=arn):
            yield sweep.find("ECS service", str(service), billed=False)
        yield from _tasks(sweep, arn)


def _our_clusters(sweep: AskedCloud) -> Iterator[str]:
    known = set(sweep.cloud.ids(CLUSTER))
    for arn in sweep.pages("ecs", "list_clusters", "clusterArns"):
        found = sweep.clients("ecs").describe_clusters(clusters=[arn], include=["TAGS"])["clusters"]
        for one in found:
            # One that was deleted is described for hours as inactive.
            ours = {str(arn), str(one["clusterName"])} & known or sweep.is_ours(Tags.read(one.get("tags")))
            if one["status"] != "INACTIVE" and ours:
                yield str(arn)


def _tasks(sweep: AskedCloud, cluster: str) -> Iterator[Finding]:
    arns = list(sweep.pages("ecs", "list_tasks", "taskArns", cluster=cluster))
    for start in range(0, len(arns), _TASKS_AT_ONCE):
        some = arns[start : start + _TASKS_AT_ONCE]
        for one in sweep.clients("ecs").describe_tasks(cluster=cluster, tasks=some)["tasks"]:
            if one["lastStatus"] != "STOPPED":
                size = f"{one['lastStatus']}, {one.get('cpu', '?')} CPU units, {one.get('memory', '?')} MiB"
                yield sweep.find("ECS task", str(one["taskArn"]), size)


def task_definitions(sweep: AskedCloud) -> Iterator[Finding]:
    """Revisions of task definitions that could still be run."""
    known = set(sweep.cloud.ids("aws:ecs/taskDefinition:TaskDefinition"))
    for arn in sweep.pages("ecs", "list_task_definitions", "taskDefinitionArns", status="ACTIVE"):
        family = str(arn).rpartition("/")[2].rpartition(":")[0]
        ours = bool({family, str(arn)} & known)
        if not ours and family.startswith(f"{sweep.cloud.platform}-"):
            asked = {"taskDefinition": arn, "include": ["TAGS"]}
            described = sweep.exists("ecs", "describe_task_definition", **asked) or {}
            ours = sweep.is_ours(Tags.read(described.get("tags")))
        if ours:
            yield sweep.find("task definition", str(arn), billed=False)


def secrets(sweep: AskedCloud) -> Iterator[Finding]:
    """Secrets; one that waits for its deletion is not paid for, and can be had back until then."""
    known = set(sweep.cloud.ids("aws:secretsmanager/secret:Secret"))
    for one in sweep.pages("secretsmanager", "list_secrets", "SecretList", IncludePlannedDeletion=True):
        if one["ARN"] not in known and not sweep.is_ours(Tags.read(one.get("Tags"))):
            continue
        gone = one.get("DeletedDate")
        until = f"deleted on {gone:%Y-%m-%d}, can be had back until then" if gone else ""
        price = None if gone else SECRETS_MANAGER
        yield sweep.find(
            "secret", str(one["Name"]), until, price_item=price, state="ending" if gone else "left"
        )
