"""Weights are staged in parts, resumed, and proved, against moto's S3."""

import importlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest
from moto import mock_aws

from runtime.ops.staged_weights import MANIFEST, S3, Manifest, StagedWeights, StagingError

BUCKET = "models-of-a-test"
PART = 5 * 2**20


class Counting:
    """boto3's client, with the checksums that S3 lists and moto 5.2 does not, and a cable that can be cut."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.sent: list[int] = []
        self.cut_after: int | None = None
        self._checksums: dict[tuple[str, int], str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def upload_part(self, **request: Any) -> dict[str, Any]:
        if self.cut_after is not None and len(self.sent) >= self.cut_after:
            raise ConnectionError("cut")
        self.sent.append(len(request["Body"]))
        self._checksums[request["UploadId"], request["PartNumber"]] = request["ChecksumSHA256"]
        return self._client.upload_part(**request)

    def list_parts(self, **request: Any) -> dict[str, Any]:
        answer = self._client.list_parts(**request)
        for part in answer.get("Parts", []):
            part.setdefault("ChecksumSHA256", self._checksums[request["UploadId"], part["PartNumber"]])
        return answer


@pytest.fixture(name="s3")
def fixture_s3(monkeypatch: pytest.MonkeyPatch) -> Generator[Counting]:
    with mock_aws():
        client: Any = importlib.import_module("boto3").client(
            "s3", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket=BUCKET)
        yield Counting(client)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    (tmp_path / "nested").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "nested" / "model.safetensors").write_bytes(os.urandom(2 * PART + 100))
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "lock").write_text("not weights")
    return tmp_path


def weights(s3: Counting) -> StagedWeights:
    return StagedWeights(cast("S3", s3), BUCKET, "models/tiny/abc", part_bytes=PART)


def keys(s3: Counting) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]


def test_a_folder_is_uploaded_once_and_a_second_time_sends_nothing(s3: Counting, folder: Path) -> None:
    manifest = weights(s3).upload("tiny", "abc", folder)
    assert [file.name for file in manifest.files] == ["config.json", "nested/model.safetensors"]
    assert s3.sent == [2, PART, PART, 100]
    assert weights(s3).upload("tiny", "abc", folder) == manifest
    assert len(s3.sent) == 4
    assert weights(s3).manifest() == manifest


def test_an_upload_that_was_cut_goes_on_with_the_part_that_is_missing(s3: Counting, folder: Path) -> None:
    s3.cut_after = 3
    with pytest.raises(ConnectionError):
        weights(s3).upload("tiny", "abc", folder)
    assert weights(s3).manifest() is None, "weights that are not complete must not look staged"
    s3.cut_after = None
    weights(s3).upload("tiny", "abc", folder)
    assert s3.sent == [2, PART, PART, 100]
    assert s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads") is None


def test_a_part_of_another_file_is_sent_again(s3: Counting, folder: Path) -> None:
    s3.cut_after = 3
    with pytest.raises(ConnectionError):
        weights(s3).upload("tiny", "abc", folder)
    s3.cut_after = None
    model = folder / "nested" / "model.safetensors"
    model.write_bytes(os.urandom(PART) + model.read_bytes()[PART:])
    weights(s3).upload("tiny", "abc", folder)
    assert s3.sent == [2, PART, PART, PART, 100]


def test_an_object_that_was_changed_or_removed_is_found(s3: Counting, folder: Path) -> None:
    manifest = weights(s3).upload("tiny", "abc", folder)
    assert weights(s3).problems(manifest) == []
    s3.put_object(Bucket=BUCKET, Key="models/tiny/abc/config.json", Body=b"[]")
    (problem,) = weights(s3).problems(manifest)
    assert problem.startswith("config.json has checksum")
    s3.delete_object(Bucket=BUCKET, Key="models/tiny/abc/nested/model.safetensors")
    assert "nested/model.safetensors is missing" in weights(s3).problems(manifest)
    s3.put_object(Bucket=BUCKET, Key="models/tiny/abc/config.json", Body=b"longer")
    assert "config.json has 6 bytes and not 2" in weights(s3).problems(manifest)


def test_weights_without_a_revision_are_named_by_their_own_digest(s3: Counting, folder: Path) -> None:
    manifest = weights(s3).upload("tiny", None, folder)
    assert manifest.revision == manifest.digest
    (folder / "config.json").write_text("[]")
    assert weights(s3).upload("tiny", None, folder).digest != manifest.digest


def test_a_manifest_that_was_edited_is_refused(s3: Counting, folder: Path) -> None:
    text = weights(s3).upload("tiny", "abc", folder).text()
    assert Manifest.read(text).model == "tiny"
    with pytest.raises(StagingError, match="stage the weights again"):
        Manifest.read(text.replace('"size": 2,', '"size": 3,'))
    with pytest.raises(StagingError, match="cannot be read"):
        Manifest.read("{}")


def test_weights_are_removed_with_their_old_versions_and_nothing_beside_them(
    s3: Counting, folder: Path
) -> None:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=BUCKET, Key="models/tiny/abcd/config.json", Body=b"of another revision")
    weights(s3).upload("tiny", "abc", folder)
    s3.put_object(Bucket=BUCKET, Key="models/tiny/abc/config.json", Body=b"a later version")
    assert weights(s3).remove() == 4
    assert weights(s3).manifest() is None
    left = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    assert [one["Key"] for one in left] == ["models/tiny/abcd/config.json"]
    assert weights(s3).remove() == 0


def test_shards_of_other_weights_under_the_prefix_go_when_the_new_ones_are_verified(
    s3: Counting, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    beside = "models/tiny/abcd/config.json"
    s3.put_object(Bucket=BUCKET, Key=beside, Body=b"of another revision")
    shards = [f"models/tiny/abc/model-{number}.safetensors" for number in range(3)]
    for key in shards:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"of other weights")
    s3.cut_after = 2
    with pytest.raises(ConnectionError):
        weights(s3).upload("tiny", None, folder)
    assert set(shards) <= set(keys(s3)), "nothing goes before all that is new is there"
    s3.cut_after = None
    listed = s3.list_objects_v2

    def two(**request: Any) -> Any:
        return listed(**request, MaxKeys=2)

    monkeypatch.setattr(s3, "list_objects_v2", two, raising=False)
    manifest = weights(s3).upload("tiny", None, folder)
    monkeypatch.undo()
    assert keys(s3) == [
        "models/tiny/abc/config.json",
        "models/tiny/abc/nested/model.safetensors",
        f"models/tiny/abc/{MANIFEST}",
        beside,
    ]
    assert weights(s3).manifest() == manifest
    versions = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    assert set(shards) <= {one["Key"] for one in versions}, "they can be had back"


def test_other_weights_that_s3_keeps_leave_the_new_ones_without_a_manifest(
    s3: Counting, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket=BUCKET, Key="models/tiny/abc/old.safetensors", Body=b"of other weights")

    def kept(**_: Any) -> Any:
        return {"Errors": [{"Key": "models/tiny/abc/old.safetensors", "Message": "a policy says no"}]}

    monkeypatch.setattr(s3, "delete_objects", kept, raising=False)
    with pytest.raises(StagingError, match=r"abc/old\.safetensors, which is not of .* a policy says no"):
        weights(s3).upload("tiny", None, folder)
    assert weights(s3).manifest() is None


def test_an_empty_folder_is_refused_with_the_folder_that_was_meant(s3: Counting, tmp_path: Path) -> None:
    with pytest.raises(StagingError, match=r"config\.json"):
        weights(s3).upload("tiny", "abc", tmp_path)
