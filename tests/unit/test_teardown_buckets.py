"""The stack's own buckets in a teardown, over the double: what is data, what forbids its end, and its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rehearsal.aws.clients import client
from runtime.ops import object_versions
from runtime.ops.pulumi_cli import PulumiError
from runtime.ops.teardown import sweep
from runtime.ops.teardown.certificate import Certificate
from runtime.ops.teardown.run import RefusedError
from tests.support.aws import RunningDouble
from tests.support.torn_down import STACK, TornDown, aws_resource, state_of

OURS, THEIRS = "ours-models", "somebody-elses"
BUCKET = "aws:s3/bucket:Bucket"
STAGED = "models/tiny/abc"
TAGS = {"spillway:stack": STACK, "spillway:platform": "c"}
STAGING = {
    "account": "123456789012",
    "region": "us-east-1",
    "bucket": OURS,
    "images": [],
    "models": [{"name": "tiny", "token": "t", "prefix": STAGED, "image": {"source": "a", "target": "b"}}],
}
LOST = (
    f"bucket {OURS} (2 objects in 3 versions, 18 bytes, 1 delete marker) in 123456789012 would be lost; "
    "move the data, or say --delete-data"
)


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "QUESTIONS", [one for one in sweep.QUESTIONS if one[1] == "buckets"])


class WithBucket(TornDown):
    """A stack with one bucket, and beside it a bucket of somebody else's."""

    def __init__(self, folder: Path, double: RunningDouble, **bucket: Any) -> None:
        super().__init__(folder, state_of(aws_resource(BUCKET, OURS, **bucket), aws=True), double)
        self.exported["deployment"]["resources"][0]["outputs"] = {"cloudStaging": STAGING}
        # The very client that the teardown asks, so that a test may come between.
        self.s3 = client("s3", double.endpoint, "us-east-1", None, 1)
        self.deletes_in_aws = lambda: self.s3.delete_bucket(Bucket=OURS)
        self.s3.create_bucket(Bucket=THEIRS)
        self.s3.put_object(Bucket=THEIRS, Key="notes", Body=b"theirs")

    def make(self, tags: Mapping[str, str] = TAGS, **settings: Any) -> None:
        self.s3.create_bucket(Bucket=OURS, **settings)
        on = {"Status": "Enabled"}
        self.s3.put_bucket_versioning(Bucket=OURS, VersioningConfiguration=on)
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        self.s3.put_bucket_tagging(Bucket=OURS, Tagging={"TagSet": listed})

    def fill(self) -> None:
        """Two objects, one of them twice and then deleted."""
        for key, body in (("notes", b"first"), ("notes", b"second"), ("traces/1", b"seventh")):
            self.s3.put_object(Bucket=OURS, Key=key, Body=body)
        self.s3.delete_object(Bucket=OURS, Key="notes")

    def unstage(self) -> None:
        object_versions.ObjectVersions(self.s3, OURS, f"{STAGED}/").delete()

    def run(self, **wishes: Any) -> Certificate:
        certificate = self.teardown(**wishes).run()
        assert certificate is not None
        return certificate

    @property
    def keys(self) -> list[str]:
        return [one.key for one in object_versions.ObjectVersions(self.s3, OURS)]


@pytest.fixture(name="stack")
def fixture_stack(tmp_path: Path, double: RunningDouble) -> WithBucket:
    stack = WithBucket(tmp_path / "certificates", double)
    stack.make()
    return stack


def test_what_staging_brought_goes_without_a_word_and_the_bucket_after_it(stack: WithBucket) -> None:
    stack.s3.put_object(Bucket=OURS, Key=f"{STAGED}/model.safetensors", Body=b"weights")
    certificate = stack.run()
    assert certificate.clean, certificate.text()
    assert [one["Name"] for one in stack.s3.list_buckets()["Buckets"]] == [THEIRS]


def test_anything_else_in_it_is_counted_and_refused_before_anything_is_touched(stack: WithBucket) -> None:
    stack.fill()
    with pytest.raises(RefusedError) as refused:
        stack.run()
    assert str(refused.value) == LOST
    assert len(stack.keys) == 4
    assert (stack.destroys, stack.cluster.deleted) == (0, [])


def test_the_plan_shows_what_would_be_lost_with_the_flag_and_without(stack: WithBucket) -> None:
    stack.fill()
    lost = LOST.partition(" would be lost")[0]
    plan = stack.teardown().plan()
    assert f"would lose {lost}" in plan.lines
    assert plan.refused == (LOST,)
    assert f"would be refused: {LOST}" in plan.text
    with_flag = stack.teardown(delete_data=True).plan()
    assert f"would lose {lost}" in with_flag.lines
    assert with_flag.refused == ()
    assert len(stack.keys) == 4


def test_with_the_flag_versions_markers_and_unfinished_uploads_go_and_other_buckets_stay(
    stack: WithBucket,
) -> None:
    stack.fill()
    stack.s3.create_multipart_upload(Bucket=OURS, Key="half")
    certificate = stack.run(delete_data=True)
    assert certificate.clean, certificate.text()
    assert [one["Name"] for one in stack.s3.list_buckets()["Buckets"]] == [THEIRS]
    assert stack.s3.list_objects_v2(Bucket=THEIRS)["KeyCount"] == 1


def test_one_that_is_killed_while_it_deletes_goes_on_with_the_flag_and_not_without(
    stack: WithBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        stack.s3.put_object(Bucket=OURS, Key=f"traces/{number}", Body=b"seventh")
    listed = stack.s3.list_object_versions

    def few(**request: Any) -> Any:
        return listed(**request, MaxKeys=2)

    deleted = stack.s3.delete_objects

    def killed(**request: Any) -> None:
        deleted(**request)
        raise KeyboardInterrupt

    monkeypatch.setattr(stack.s3, "list_object_versions", few)
    with monkeypatch.context() as patch:
        patch.setattr(stack.s3, "delete_objects", killed)
        with pytest.raises(KeyboardInterrupt):
            stack.run(delete_data=True)
    assert len(stack.keys) == 3
    with pytest.raises(RefusedError, match=r"3 objects in 3 versions, 21 bytes"):
        stack.run()
    assert stack.run(delete_data=True).clean


def test_what_is_written_after_a_bucket_was_emptied_goes_before_the_destroy_is_tried_again(
    stack: WithBucket,
) -> None:
    stack.make()

    def written_late() -> None:
        # A gateway's last copies of prompts: it ends in the destroy, after its bucket was emptied.
        stack.s3.put_object(Bucket=OURS, Key="capture/last", Body=b"late")
        stack.deletes_in_aws = lambda: stack.s3.delete_bucket(Bucket=OURS)
        raise PulumiError("BucketNotEmpty")

    stack.deletes_in_aws = written_late
    assert stack.run(delete_data=True).clean
    assert stack.destroys == 2


def test_a_bucket_without_the_stacks_tags_is_never_emptied(tmp_path: Path, double: RunningDouble) -> None:
    stack = WithBucket(tmp_path, double)
    stack.make({"spillway:stack": "organization/spillway/another", "spillway:platform": "c"})
    stack.fill()
    with pytest.raises(RefusedError, match=rf"bucket {OURS} is in the state, and does not bear the tag"):
        stack.run(delete_data=True)
    assert len(stack.keys) == 4


def test_object_lock_is_refused_with_what_to_do_and_an_empty_locked_bucket_is_not(
    tmp_path: Path, double: RunningDouble
) -> None:
    stack = WithBucket(tmp_path, double)
    stack.make(ObjectLockEnabledForBucket=True)
    stack.fill()
    with pytest.raises(
        RefusedError, match="has Object Lock, and S3 keeps what is under retention or a legal"
    ):
        stack.run(delete_data=True)
    assert len(stack.keys) == 4
    object_versions.ObjectVersions(stack.s3, OURS).delete()
    assert stack.run().clean


def test_what_s3_keeps_all_the_same_is_named_and_the_destroy_is_not_run(
    stack: WithBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.fill()

    def kept(**_: Any) -> Any:
        return {"Errors": [{"Key": "notes", "Code": "AccessDenied", "Message": "a policy says no"}]}

    monkeypatch.setattr(stack.s3, "delete_objects", kept)
    certificate = stack.run(delete_data=True)
    assert (
        certificate.sweeps[-1]
        .problems[0]
        .startswith(f"buckets: bucket {OURS}: S3 keeps notes: a policy says no; retention")
    )
    assert stack.destroys == 0


@pytest.mark.parametrize("mark", ["retainOnDelete", "external"])
def test_a_bucket_that_a_destroy_leaves_is_left_as_it_is(
    mark: str, tmp_path: Path, double: RunningDouble
) -> None:
    stack = WithBucket(tmp_path, double, **{mark: True})
    stack.make()
    stack.fill()
    stack.deletes_in_aws = lambda: None
    stack.run(delete_data=True)
    assert len(stack.keys) == 4


def test_a_bucket_that_cannot_be_asked_keeps_everything_where_it_is(stack: WithBucket) -> None:
    stack.fill()
    assert stack.double is not None
    stack.double.script(outages=[{"service": "s3", "status": 403, "code": "AccessDenied"}])
    certificate = stack.run(delete_data=True)
    assert certificate.sweeps[-1].problems[0].startswith("S3 cannot be asked: ")
    assert stack.destroys == 0
