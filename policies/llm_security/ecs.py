"""Tasks on ECS: who they run as, what they may write, where secrets are, and who reaches them."""

import json
import re
from typing import Final

from policies.enforcement import ADVISORY_IN_DEV
from policies.frameworks import fsbp, gdpr
from policies.reading import Node, read
from policies.rule import Found, Problem, Resource, Rule, Severity

TASK_DEFINITION: Final = "aws:ecs/taskDefinition:TaskDefinition"
SERVICE: Final = "aws:ecs/service:Service"

_ROOT: Final = frozenset({"", "0", "root"})
# Names of variables whose values nobody should read in a console: `API_KEY`, but not `KEYBOARD`.
_SECRET: Final = re.compile(
    r"(^|_)(API_?KEYS?|ACCESS_KEY|AUTH|PASSWORD|SECRETS?|TOKENS?)($|_)", re.IGNORECASE
)


def _check(resource: Resource, _: Node) -> Found:
    root = read(resource.props)
    if resource.type == SERVICE:
        public = root.child("networkConfiguration", "assignPublicIp")
        if public.boolean(default=False):
            yield Problem(f"{public.path} is true.", f"Set {public.path} to false; clients have a way in.")
        return
    for container in root.child("containerDefinitions").parsed().items():
        yield from _hardened(container)


def _hardened(container: Node) -> Found:
    user = container.child("user")
    if user.text(default="").partition(":")[0] in _ROOT:
        yield Problem(f"{user.path} is not set to another user than root.", f"Set {user.path} to a number.")
    root = container.child("readonlyRootFilesystem")
    if not root.boolean(default=False):
        yield Problem(
            f"{root.path} is not true.", f"Set {root.path} to true, and mount volumes for what is written."
        )
    privileged = container.child("privileged")
    if privileged.boolean(default=False):
        yield Problem(f"{privileged.path} is true.", f"Set {privileged.path} to false.")
    for variable in container.child("environment").items():
        name = variable.child("name").text()
        if _SECRET.search(name):
            yield Problem(
                f"{variable.path} gives {name} in plain text, which everybody reads who may describe tasks.",
                "Put it into Secrets Manager, and name its ARN in `secrets`.",
            )


ECS_HARDENED: Final = Rule(
    name="ecs-hardened",
    description="Tasks on ECS have no root, no public address, a root file system that is only read, and "
    "secrets by reference.",
    severity=Severity.HIGH,
    remediation=(
        "Set user and readonlyRootFilesystem of each container, assignPublicIp of the service to false, and "
        "name secrets in `secrets`.\n"
        "Variables are told by their names, so a secret under a harmless name is not seen."
    ),
    enforcement=ADVISORY_IN_DEV,
    controls=(*fsbp("ECS.2", "ECS.4", "ECS.5", "ECS.8", "ECS.20"), *gdpr(32)),
    check=_check,
    types=frozenset({TASK_DEFINITION, SERVICE}),
    # The ARN of a secret that is not there yet makes all of the containers unknown.
    deferrable=True,
    example=Resource(
        TASK_DEFINITION,
        "gateway",
        {"containerDefinitions": json.dumps([{"name": "envoy", "image": "envoy:1", "user": "0"}])},
    ),
)
