"""The comment of a preview: recorded streams of a p5en pool, and made ones for each section."""

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest

from policies.gpu_cost.pools import GPU_MAX_PER_POOL
from policies.lifecycle.record import UNKNOWNS_ACCOUNTED, WAIVERS_IN_FORCE
from policies.rule import Resource
from runtime.ops.preview.comment import BLOCKED, FAILED, LIMIT, OK, Comment
from runtime.ops.preview.events import read_preview
from runtime.stack_resources import UNKNOWN
from tests.support.preview_events import SECRET, error, passed, policy, step, stream, urn_of
from tests.support.stack_files import ROOT

MADE = dt.datetime(2026, 7, 21, 12, tzinfo=dt.UTC)
RECORDED = Path(__file__).parent / "previews"
EXAMPLES = ROOT / "docs" / "previews"
GROUP = "aws:eks/nodeGroup:NodeGroup"
BUCKET = "aws:s3/bucket:Bucket"
AWS = "pulumi:providers:aws"
SERVICE = "kubernetes:core/v1:Service"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"


def comment(lines: list[str], **more: Any) -> Comment:
    return Comment(preview=read_preview(lines), project="demo", stack="dev", made=MADE, **more)


def written(*events: dict[str, Any]) -> str:
    return comment(stream(*events)).render()


def recorded(name: str, caps: int | None) -> Comment:
    """A preview that ran, with what its policy configuration said of the two caps by the hour."""
    lines = (RECORDED / f"{name}.ndjson").read_text().splitlines()
    names = () if caps is None else ("gpu-pool-hourly-ceiling", "gpu-hourly-ceiling")
    return comment(lines, commit="0123456789abcdef", limits={one: {"maxUsdPerHour": caps} for one in names})


def section(markdown: str, title: str) -> str:
    parts = re.split(r"^#### |<summary>", markdown, flags=re.MULTILINE)
    return next((part for part in parts if part.startswith(title)), "")


@pytest.mark.parametrize(("name", "cap", "status"), [("refused", None, BLOCKED), ("raised", 600, OK)])
def test_four_p5en_nodes_at_most_are_refused_by_the_default_cap_and_pass_with_a_raised_one(
    name: str, cap: int | None, status: int, request: pytest.FixtureRequest
) -> None:
    found = recorded(name, cap)
    text = found.render()
    assert found.status == status
    assert "**$253.27**" in section(text, "Cost")
    shown = section(text, "Cost") if cap else section(text, "Policies")
    assert ("`gpu-hourly-ceiling` maxUsdPerHour = 600" if cap else "Allowed: $100.") in shown
    assert "0 → **32**" in section(text, "Accelerators")
    if request.config.getoption("--update-golden"):
        (EXAMPLES / f"{name}.md").write_text(text)
    assert (EXAMPLES / f"{name}.md").read_text() == text


def test_a_refusal_names_the_policies_the_figures_and_the_fix() -> None:
    text = recorded("refused", None).render()
    assert "**blocked** by 2 policies: `gpu-pool-hourly-ceiling`, `gpu-hourly-ceiling`" in text
    policies = section(text, "Policies")
    assert "The stack may cost $253.27 an hour" in policies
    assert "Allowed: $100. **Fix:** Lower the largest numbers" in policies


def test_a_recorded_change_shows_what_is_replaced_deleted_and_changed() -> None:
    lines = (RECORDED / "changed.ndjson").read_text().splitlines()
    text = comment(lines).render()
    rows = section(text, "What would be destroyed").splitlines()[4:6]
    kind = "aws:cloudwatch/logGroup:LogGroup"
    assert rows[0] == f"| **data** | replace, new one first | `requests` (`{kind}`) | `name` | nothing |"
    assert rows[1].startswith(
        "| **identity** | delete | `key` (`random:index/randomPassword:RandomPassword`) |"
    )
    assert "| `nvidia-h200` EKS | 0 | 0 | 32 → **16** |" in section(text, "Accelerators")
    assert "| change an hour | $0.00 | $0.00 | -$126.64 |" in section(text, "Cost")
    assert "-   scalingConfig.maxSize: 4\n+   scalingConfig.maxSize: 2" in section(
        text, "Property differences"
    )
    assert "Changes: 1 update, 1 replace, 1 delete" in text
    assert "+   tags: [secret]" in section(text, "Property differences")
    assert "known-secret" not in text


def test_the_comment_begins_with_the_mark_of_its_stack() -> None:
    assert written(step("create", BUCKET, "a", None, {})).startswith("<!-- spillway:demo/dev -->\n### ")


def test_a_preview_without_changes_is_one_line() -> None:
    text = written(step("same", BUCKET, "a", {}, {}), passed("one", "two"))
    assert (
        text
        == "<!-- spillway:demo/dev -->\n`demo/dev`: no changes; $0.00 to $0.00 an hour; 2 policies passed\n"
    )


def test_a_preview_without_packs_is_not_said_to_have_passed() -> None:
    create = step("create", BUCKET, "a", None, {})
    assert "`demo/dev`: policies pass" in written(create, passed())
    assert "`demo/dev`: **no policy has judged it**" in written(create)


def test_the_cost_is_shown_before_after_and_by_the_hour_first_with_the_exposure() -> None:
    def group(most: int) -> dict[str, Any]:
        scaling = {"minSize": 0, "desiredSize": 0, "maxSize": most}
        update = {"maxUnavailable": 1, "updateStrategy": "MINIMAL"}
        given = {"instanceTypes": ["p5en.48xlarge"], "scalingConfig": scaling, "updateConfig": update}
        return {**given, "diskSize": 20, "subnetIds": ["a"]}

    provider = {"region": "us-east-1", "defaultTags": json.dumps({"tags": {"spillway:expires": "10h"}})}
    text = written(
        step("same", AWS, "aws", provider, provider),
        step("update", GROUP, "p5en", group(2), group(4), provider=f"{urn_of(AWS, 'aws')}::id"),
    )
    cost = section(text, "Cost").splitlines()
    rows = [line for line in cost if line.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in rows] == [
        "an hour, before",
        "**an hour, after**",
        "change an hour",
        "a month of 730 hours, after",
        "change a month",
    ]
    # 63.296 an hour each, and 20 GiB at 0.08 a month of 730 hours.
    assert [row.split("|")[4].strip() for row in rows[:3]] == ["$126.60", "**$253.19**", "+$126.60"]
    assert "expires on 2026-07-21 22:00 UTC: **$2,531.93**" in "\n".join(cost)
    assert "| `nvidia-h200` EKS | 0 | 0 | 16 → **32** |" in section(text, "Accelerators")


def test_what_has_no_price_is_named_and_a_stack_without_an_end_says_so() -> None:
    cost = section(written(step("create", "aws:mystery/thing:Thing", "odd", None, {})), "Cost")
    assert "unpriced, and in no sum: 1 x all of it (odd)" in cost
    assert "names no end" in cost


def test_destruction_is_listed_with_data_first_its_cause_and_what_protects_it() -> None:
    text = written(
        step("delete", "random:index/randomPassword:RandomPassword", "key", {}),
        step("replace", GROUP, "gpus", {}, {}, keys=("diskSize",)),
        step("create-replacement", GROUP, "gpus", {}, {}, keys=("diskSize",)),
        step("delete-replaced", GROUP, "gpus", {}, keys=("diskSize",)),
        step("delete", BUCKET, "weights", {}, protect=True, retainOnDelete=True),
        passed("one"),
    )
    rows = section(text, "What would be destroyed").splitlines()[4:7]
    assert rows == [
        f"| **data** | delete | `weights` (`{BUCKET}`) | no longer declared | protect, retain on delete |",
        f"| **downtime** | replace, new one first | `gpus` (`{GROUP}`) | `diskSize` | nothing |",
        "| **identity** | delete | `key` (`random:index/randomPassword:RandomPassword`) | no longer declared "
        "| nothing |",
    ]
    assert "policies pass, but **data would go**: `weights`" in text


def test_a_replacement_that_deletes_first_says_so() -> None:
    text = written(
        step("delete-replaced", GROUP, "gpus", {}),
        step("replace", GROUP, "gpus", {}, {}),
        step("create-replacement", GROUP, "gpus", {}, {}),
    )
    assert "replace, old one first" in section(text, "What would be destroyed")


def test_a_component_that_goes_is_no_loss_of_its_own() -> None:
    text = written(step("delete", "spillway:aws:EksCluster", "it", {}, custom=False))
    assert section(text, "What would be destroyed") == ""


def test_policies_say_what_failed_what_was_unknown_what_is_waived_and_how_many_passed() -> None:
    late = "aws:iam/policy:Policy p: least-privilege needs policy"
    waived = f"image-digest on {urn_of(DEPLOYMENT, 'd')} is waived by ml-platform until 2027-01-31: none yet"
    text = written(
        policy("caps", "Too many.\nFix: Have fewer."),
        policy("caps", "Too many.\nFix: Have fewer."),
        policy("gpu-max-per-pool", _of_an_unknown_value()),
        policy(UNKNOWNS_ACCOUNTED.name, f"{late}\nFix: Nothing.", level="advisory"),
        policy(WAIVERS_IN_FORCE.name, f"{waived}\nFix: Nothing.", level="advisory"),
        policy("hint", "Better so.\nFix: Do it.", level="advisory"),
        passed("caps", "others", "more"),
    )
    policies = section(text, "Policies")
    assert policies.count("**failed** `caps` on `demo-dev`: Too many. **Fix:** Have fewer.") == 1
    assert "**not known, so blocked** `gpu-max-per-pool`" in policies
    assert "not evaluated before `up`: aws:iam/policy:Policy p: least-privilege needs policy" in policies
    assert "waived: image-digest on" in policies
    assert "by ml-platform until 2027-01-31" in policies
    assert "- 2 policies passed" in policies
    assert "`hint` on `demo-dev`: Better so." in section(text, "Advice of policies: 1")


def _of_an_unknown_value() -> str:
    """What a rule of the packs says of a value that is not known yet."""
    pool = Resource(GROUP, "p", {"instanceTypes": ["p5en.48xlarge"], "scalingConfig": UNKNOWN})
    verdict = GPU_MAX_PER_POOL.evaluate(pool, {})
    assert isinstance(verdict, list)
    return f"{verdict[0].message}\nFix: {verdict[0].remediation}"


@pytest.mark.parametrize(
    ("kind", "before", "after", "words"),
    [
        (AWS, {"region": "us-east-1"}, {"region": "eu-central-1"}, "**new** region: eu-central-1"),
        (
            "aws:eks/cluster:Cluster",
            {"vpcConfig": {"endpointPublicAccess": False}},
            {"vpcConfig": {}},
            "**new** open: Kubernetes API of it, from 0.0.0.0/0",
        ),
        ("aws:lb/loadBalancer:LoadBalancer", {"internal": True}, {}, "**new** open: load balancer it"),
        (
            "aws:ec2/securityGroup:SecurityGroup",
            {"ingress": []},
            {"ingress": [{"fromPort": 8000, "toPort": 8000, "cidrBlocks": ["0.0.0.0/0"]}]},
            "**new** open: port 8000 of it, from 0.0.0.0/0",
        ),
        (
            "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
            {"cidrIpv4": "0.0.0.0/0", "fromPort": 1, "toPort": 9},
            {"cidrIpv4": "10.0.0.0/8", "fromPort": 1, "toPort": 9},
            "no longer open: ports 1-9 of it, from 0.0.0.0/0",
        ),
        (
            "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
            dict.fromkeys(
                ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True
            ),
            {"blockPublicAcls": True, "ignorePublicAcls": True, "restrictPublicBuckets": True},
            "**new** open: public access block it without blockPublicPolicy",
        ),
        (
            SERVICE,
            {"spec": {"type": "ClusterIP"}},
            {"spec": {"type": "LoadBalancer"}},
            "load balancer of Service it",
        ),
        (
            "kubernetes:networking.k8s.io/v1:Ingress",
            {"spec": {"rules": [{"host": "a.example"}]}},
            {"spec": {"rules": [{"host": "b.example"}]}},
            "**new** open: Ingress it for b.example",
        ),
        (
            "aws:ec2/subnet:Subnet",
            {},
            {"mapPublicIpOnLaunch": True},
            "machines in subnet it get public addresses",
        ),
    ],
)
def test_what_is_newly_open_or_in_another_region_is_said(
    kind: str, before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    same = section(written(step("update", kind, "it", before, before)), "Open to others")
    changed = section(written(step("update", kind, "it", before, after)), "Open to others")
    assert same == ""
    assert words in changed.replace("\\", "")


def test_changes_are_one_line_each_and_the_difference_names_each_property() -> None:
    text = written(
        step(
            "update",
            DEPLOYMENT,
            "gateway",
            {"spec": {"replicas": 1, "image": "x@sha256:" + "a" * 64}, "__defaults": ["a"]},
            {"spec": {"replicas": 2, "image": "x@sha256:" + "b" * 64}, "__defaults": []},
        )
    )
    assert f"- update `gateway` (`{DEPLOYMENT}`): `spec.replicas`" in section(text, "Changes: 1 update")
    difference = section(text, "Property differences")
    assert "-   spec.replicas: 1\n+   spec.replicas: 2" in difference
    assert "image" not in difference
    assert "__defaults" not in difference


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {"data": {**SECRET, "plaintext": '"known-secret-1"'}},
            {"data": {**SECRET, "plaintext": '"known-secret-2"'}},
        ),
        (
            {"env": [{"name": "HF_TOKEN", "value": "known-secret-1"}]},
            {"env": [{"name": "HF_TOKEN", "value": "known-secret-2"}]},
        ),
        ({"password": "known-secret-1"}, {"password": "known-secret-2"}),
    ],
)
def test_no_secret_gets_into_the_comment(before: dict[str, Any], after: dict[str, Any]) -> None:
    text = written(step("update", DEPLOYMENT, "it", before, after, diffs=tuple(after)))
    assert "known-secret" not in text
    assert "update `it`" in text


def test_a_secret_that_differs_is_named_and_one_that_an_error_quotes_is_masked() -> None:
    secret = {"data": {**SECRET, "plaintext": json.dumps('known-secret_*"1')}}
    text = written(
        step("update", DEPLOYMENT, "it", secret, secret, diffs=("data",)),
        error('cannot use known-secret_*"1 here'),
    )
    assert "-   data: [secret]\n+   data: [secret]" in text
    assert "known-secret" not in text
    assert "cannot use \\[secret\\] here" in text


def test_a_preview_that_failed_says_on_what_and_still_shows_what_it_saw() -> None:
    found = comment(
        stream(step("delete", BUCKET, "weights", {}), error("no credentials"), error("preview failed"))
    )
    text = found.render()
    assert found.status == FAILED
    assert "the preview **failed**" in text
    assert "- no credentials" in section(text, "What failed")
    assert "preview failed" not in text
    assert "weights" in section(text, "What would be destroyed")


def test_a_preview_that_ended_in_the_middle_counts_as_failed() -> None:
    found = comment(stream(step("create", BUCKET, "a", None, {}), ended=False))
    assert found.status == FAILED
    assert "not the whole of it" in found.render()


def test_a_blocked_preview_is_not_a_failed_one() -> None:
    assert comment(stream(policy("caps", "Too many."), error("preview failed"))).status == BLOCKED


def test_words_of_a_program_are_no_markup_and_notify_nobody() -> None:
    text = written(error("<img src=x> | @everyone [click](http://x) `code`"))
    assert "<img" not in text
    assert "@everyone" not in text
    assert "[click](" not in text


def test_too_long_a_comment_drops_the_difference_first_then_shortens_and_says_so() -> None:
    many = [
        step(
            "update",
            DEPLOYMENT,
            f"deployment-{at:04}",
            {"spec": {"replicas": 1}},
            {"spec": {"replicas": at + 2}},
        )
        for at in range(400)
    ]
    assert "do not fit" not in written(*many[:100])
    text = written(*many)
    assert len(text) <= LIMIT
    assert re.search(r"\n```\n\n_\d+ more lines do not fit here._\n\n</details>", text)
    assert len(re.findall(r"^- update", text, re.MULTILINE)) == 400

    far_more = written(*(step("create", DEPLOYMENT, f"d-{at:05}{'x' * 90}", None, {}) for at in range(3000)))
    assert len(far_more) <= LIMIT
    assert re.search(r"_\d+ more lines do not fit here._\n\n</details>", far_more)


def test_what_decides_is_there_however_little_room_there_is() -> None:
    events = [policy(f"rule-{at}", "Wrong. " * 100) for at in range(300)]
    text = written(step("delete", BUCKET, "weights", {}), *events)
    assert len(text) <= LIMIT
    assert "weights" in section(text, "What would be destroyed")
    assert "blocked" in text.splitlines()[1]
