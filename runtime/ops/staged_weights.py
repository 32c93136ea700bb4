"""Weights in S3: uploads a folder in parts, goes on where it was stopped, and proves what is there.

Every file becomes one multipart object with a SHA-256 for each part, which S3 checks when it receives the
part, and answers for the whole object ever after. The proof compares that answer with the local files, so
nothing has to be read back. The manifest is written last: weights without one are not staged.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from runtime.ops import object_versions
from runtime.ops.object_versions import KeptError, ObjectVersions

PART_BYTES = 64 * 2**20
# S3 numbers the parts of an object from 1 to 10,000.
_MOST_PARTS = 10_000
MANIFEST = "spillway-manifest.json"
"""What staging adds to the files of a model."""
_NOT_THERE = ("404", "NoSuchKey", "NotFound")


class StagingError(Exception):
    """Weights cannot be staged or are not what they should be; the text is the whole message."""


class S3(object_versions.S3, Protocol):
    """The calls of boto3's S3 client that are used; its errors carry `response["Error"]["Code"]`."""

    def create_multipart_upload(self, **request: Any) -> dict[str, Any]:
        """Begins an object."""
        ...

    def list_parts(self, **request: Any) -> dict[str, Any]:
        """The parts that are there."""
        ...

    def upload_part(self, **request: Any) -> dict[str, Any]:
        """Sends one part."""
        ...

    def complete_multipart_upload(self, **request: Any) -> dict[str, Any]:
        """Makes an object of its parts."""
        ...

    def head_object(self, **request: Any) -> dict[str, Any]:
        """Asks for an object's size and checksum."""
        ...

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        """The objects that are there, a thousand at a time, without old versions."""
        ...

    def get_object(self, **request: Any) -> dict[str, Any]:
        """Reads an object."""
        ...

    def put_object(self, **request: Any) -> dict[str, Any]:
        """Writes a small object."""
        ...


@dataclass(frozen=True)
class StagedFile:
    """One file of the weights.

    Attributes:
        name: Path below the folder, with `/`.
        size: Bytes.
        checksum: Base64 SHA-256 over the SHA-256 of the parts, as S3 names it, with `-PARTS` behind it.
    """

    name: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Manifest:
    """What was staged under a prefix.

    Attributes:
        model: Name of the model.
        revision: Which weights these are: a commit, or the digest of the files where there is none.
        files: The files, by name.
    """

    model: str
    revision: str
    files: tuple[StagedFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """`sha256:` over the files' names, sizes and checksums: the same weights, the same digest."""
        return digest_of(self.files)

    def text(self) -> str:
        """Renders the manifest."""
        return json.dumps({**asdict(self), "digest": self.digest}, indent=2)

    @staticmethod
    def read(text: str) -> "Manifest":
        """Reads what `text` rendered.

        Raises:
            StagingError: It is no manifest, or was changed.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            files = tuple(StagedFile(**file) for file in content["files"])
            manifest = Manifest(str(content["model"]), str(content["revision"]), files)
            said = content["digest"]
        except (ValueError, KeyError, TypeError) as error:
            raise StagingError(f"the manifest cannot be read: {error!r}; stage the weights again") from error
        if manifest.digest != said:
            raise StagingError(
                f"the manifest says {said} and lists {manifest.digest}; stage the weights again"
            )
        return manifest


def digest_of(files: Sequence[StagedFile]) -> str:
    """`sha256:` over names, sizes and checksums of files."""
    lines = "".join(f"{file.checksum} {file.size} {file.name}\n" for file in files)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


class StagedWeights:
    """The weights of one model in one bucket.

    Args:
        client: boto3's S3 client.
        bucket: The bucket.
        prefix: Where in it, without `/` at either end; one prefix for each model and revision.
        kms_key: ARN of the key that encrypts them; None for the bucket's own.
        part_bytes: Size of a part; S3 allows 5 MiB to 5 GiB.
    """

    def __init__(
        self, client: S3, bucket: str, prefix: str, kms_key: str | None = None, part_bytes: int = PART_BYTES
    ) -> None:
        self._s3 = client
        self._bucket = bucket
        self._prefix = prefix
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        self._part_bytes = part_bytes

    @property
    def url(self) -> str:
        """Where the weights are."""
        return f"s3://{self._bucket}/{self._prefix}"

    def upload(
        self, model: str, revision: str | None, folder: Path, told: Callable[[str], None] = lambda _: None
    ) -> Manifest:
        """Brings a folder into the bucket; what is there already is not sent again.

        What else is below the prefix, as shards of other weights that had no revision either, is deleted when
        the new files are verified: whoever loads the weights loads all that is there. A bucket with versions
        keeps it as an old one.

        Args:
            model: Name of the model.
            revision: Which weights these are; None takes the digest of the files.
            folder: The folder; hidden files in it are left out, links are followed.
            told: Called with how far it is.

        Raises:
            StagingError: The folder has no file, or S3 has something else than was sent, or keeps what is
                not of these weights.
        """
        paths = list(_files(folder))
        if not paths:
            raise StagingError(
                f"{folder}: there is no file in it; name the folder with the model's config.json"
            )
        total = sum(path.stat().st_size for _, path in paths)
        sent = 0
        files: list[StagedFile] = []
        for name, path in paths:
            size = path.stat().st_size
            if size > self._part_bytes * _MOST_PARTS:
                raise StagingError(
                    f"{path}: {size} bytes are more than {_MOST_PARTS} parts of {self._part_bytes}; use a "
                    "larger part"
                )
            told(f"{name}, {_percent(sent, total)} of {_size(total)}")
            checksums = [_checksum(part) for part in self._parts(path)]
            file = StagedFile(name, size, _composite(checksums))
            if self._problem(file) is not None:
                self._send(file, path, checksums, lambda done, sent=sent: told(_percent(sent + done, total)))
            files.append(file)
            sent += size
        manifest = Manifest(model, revision or digest_of(files), tuple(files))
        problems = self.problems(manifest)
        if problems:
            raise StagingError(f"{self.url} is not what was sent: {'; '.join(problems)}")
        self._remove_others(manifest)
        key = f"{self._prefix}/{MANIFEST}"
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=manifest.text().encode(), **self._encryption)
        return manifest

    def manifest(self) -> Manifest | None:
        """What was staged; None where nothing was, or not to its end.

        Raises:
            StagingError: There is one that cannot be read.
        """
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=f"{self._prefix}/{MANIFEST}")
        except Exception as error:
            if _code(error) in _NOT_THERE:
                return None
            raise
        return Manifest.read(answer["Body"].read().decode())

    def problems(self, manifest: Manifest) -> list[str]:
        """What in the bucket is not as the manifest says; S3 answers for each object."""
        found = [(file.name, self._problem(file)) for file in manifest.files]
        return [f"{name} {problem}" for name, problem in found if problem]

    def remove(self) -> int:
        """Deletes everything under the prefix, old versions too, and returns how many objects that were.

        A bucket that is not there has none.

        Raises:
            StagingError: S3 keeps some of it.
        """
        try:
            return ObjectVersions(self._s3, self._bucket, f"{self._prefix}/").delete()
        except KeptError as error:
            raise StagingError(f"{self.url} cannot be emptied: {error}") from None
        except Exception as error:
            if _code(error) == "NoSuchBucket":
                return 0  # an earlier run got as far as the bucket itself
            raise

    def _remove_others(self, manifest: Manifest) -> None:
        own = {f"{self._prefix}/{name}" for name in (MANIFEST, *(file.name for file in manifest.files))}
        after: dict[str, str] = {}
        while True:
            page = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=f"{self._prefix}/", **after)
            # Without the id of a version, which would end an old one too.
            others = [{"Key": one["Key"]} for one in page.get("Contents", ()) if one["Key"] not in own]
            if others:
                answer = self._s3.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": others, "Quiet": True}
                )
                if errors := answer.get("Errors"):
                    said = errors[0].get("Message") or errors[0].get("Code")
                    raise StagingError(
                        f"{self.url} has {errors[0]['Key']}, which is not of these weights and would be "
                        f"loaded with them, and S3 keeps it: {said}"
                    )
            if not page.get("IsTruncated"):
                return
            after = {"ContinuationToken": str(page["NextContinuationToken"])}

    def _problem(self, file: StagedFile) -> str | None:
        try:
            there = self._s3.head_object(
                Bucket=self._bucket, Key=f"{self._prefix}/{file.name}", ChecksumMode="ENABLED"
            )
        except Exception as error:
            if _code(error) in _NOT_THERE:
                return "is missing"
            raise
        if there["ContentLength"] != file.size:
            return f"has {there['ContentLength']} bytes and not {file.size}"
        # With the number of parts behind it, or without: S3 and its documents do not agree.
        said = str(there.get("ChecksumSHA256") or "").partition("-")[0]
        return None if said == file.checksum.partition("-")[0] else f"has checksum {said or 'none'}"

    def _send(
        self, file: StagedFile, path: Path, checksums: Sequence[str], done: Callable[[int], None]
    ) -> None:
        target = {"Bucket": self._bucket, "Key": f"{self._prefix}/{file.name}"}
        upload, there = self._begun(target, checksums)
        if upload is None:
            begun = self._s3.create_multipart_upload(
                **target, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE", **self._encryption
            )
            upload = str(begun["UploadId"])
        tags: list[str] = []
        for number, part in enumerate(self._parts(path), 1):
            tag = there.get(number)
            if tag is None:
                answer = self._s3.upload_part(
                    **target,
                    UploadId=upload,
                    PartNumber=number,
                    Body=part,
                    ChecksumSHA256=checksums[number - 1],
                )
                tag = str(answer["ETag"])
            tags.append(tag)
            done(min(number * self._part_bytes, file.size))
        parts = [
            {"PartNumber": number, "ETag": tag, "ChecksumSHA256": checksum}
            for number, (tag, checksum) in enumerate(zip(tags, checksums, strict=True), 1)
        ]
        self._s3.complete_multipart_upload(
            **target, UploadId=upload, MultipartUpload={"Parts": parts}, ChecksumType="COMPOSITE"
        )

    def _begun(
        self, target: Mapping[str, str], checksums: Sequence[str]
    ) -> tuple[str | None, dict[int, str]]:
        """The upload of the object that was stopped, with its right parts; others of it are removed."""
        listed = self._s3.list_multipart_uploads(Bucket=target["Bucket"], Prefix=target["Key"])
        uploads = [one for one in listed.get("Uploads", []) if one["Key"] == target["Key"]]
        for upload in uploads[1:]:
            self._s3.abort_multipart_upload(**target, UploadId=upload["UploadId"])
        if not uploads:
            return None, {}
        identity = str(uploads[0]["UploadId"])
        right: dict[int, str] = {}
        marker = 0
        while True:
            page = self._s3.list_parts(**target, UploadId=identity, PartNumberMarker=marker)
            for part in page.get("Parts", []):
                number = int(part["PartNumber"])
                if number <= len(checksums) and part.get("ChecksumSHA256") == checksums[number - 1]:
                    right[number] = str(part["ETag"])
            if not page.get("IsTruncated"):
                return identity, right
            marker = int(page["NextPartNumberMarker"])

    def _parts(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            part = file.read(self._part_bytes)
            yield part  # an empty file has one empty part
            while part := file.read(self._part_bytes):
                yield part


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    # Hugging Face's cache holds links to blobs.
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place) / name
            if not name.startswith("."):
                found.append((path.relative_to(folder).as_posix(), path))
    return iter(sorted(found))


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _composite(checksums: Sequence[str]) -> str:
    joined = b"".join(base64.b64decode(checksum) for checksum in checksums)
    return f"{_checksum(joined)}-{len(checksums)}"


def _code(error: Exception) -> str:
    # botocore's ClientError; its package is not needed to read it.
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _percent(done: int, total: int) -> str:
    return f"{100 * done // total if total else 100} %"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
