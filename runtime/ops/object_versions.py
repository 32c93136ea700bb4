"""What S3 keeps below a prefix, counted and deleted: versions, delete markers, unfinished uploads."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class S3(Protocol):
    """The calls of boto3's S3 client that are used."""

    def list_multipart_uploads(self, **request: Any) -> dict[str, Any]:
        """Objects that were begun and not completed, a thousand at a time."""
        ...

    def abort_multipart_upload(self, **request: Any) -> dict[str, Any]:
        """Removes what was begun, which would be billed for ever."""
        ...

    def list_object_versions(self, **request: Any) -> dict[str, Any]:
        """All versions of objects, a thousand at a time."""
        ...

    def delete_objects(self, **request: Any) -> dict[str, Any]:
        """Deletes up to a thousand versions."""
        ...


class KeptError(Exception):
    """S3 does not delete a version; the text names it, and says what S3 said."""


@dataclass(frozen=True)
class Version:
    """One version of an object, or a delete marker.

    Attributes:
        key: Of the object.
        id: Of the version.
        size: Bytes; 0 for a marker.
        is_marker: Whether it only says that the object was deleted.
    """

    key: str
    id: str
    size: int
    is_marker: bool


class ObjectVersions:
    """All versions of the objects of one bucket below a prefix.

    Args:
        s3: boto3's S3 client.
        bucket: The bucket.
        prefix: Where in it; empty for all of it.
        account: Account that has to own the bucket, or S3 refuses; None asks for none.
    """

    def __init__(self, s3: S3, bucket: str, prefix: str = "", account: str | None = None) -> None:
        self._s3 = s3
        owner = {} if account is None else {"ExpectedBucketOwner": account}
        self._place: Mapping[str, str] = {"Bucket": bucket, **owner}
        self._prefix = prefix

    def __iter__(self) -> Iterator[Version]:
        markers: dict[str, str] = {}
        while True:
            page = self._s3.list_object_versions(**self._place, Prefix=self._prefix, **markers)
            yield from _versions(page)
            if not page.get("IsTruncated"):
                return
            # A page that ends between two keys has no marker of a version.
            names = {"KeyMarker": "NextKeyMarker", "VersionIdMarker": "NextVersionIdMarker"}
            markers = {name: str(page[next_]) for name, next_ in names.items() if page.get(next_)}

    def delete(self, told: Callable[[int], None] = lambda _: None) -> int:
        """Deletes all of them, and ends unfinished uploads; what is gone already is fine.

        Args:
            told: Called with how many versions are gone so far.

        Returns:
            How many versions and markers that were.

        Raises:
            KeptError: S3 keeps one.
        """
        self._end_uploads()
        removed = 0
        while found := list(_versions(self._s3.list_object_versions(**self._place, Prefix=self._prefix))):
            objects = [{"Key": one.key, "VersionId": one.id} for one in found]
            answer = self._s3.delete_objects(**self._place, Delete={"Objects": objects, "Quiet": True})
            if errors := answer.get("Errors"):
                raise KeptError(f"{errors[0]['Key']}: {errors[0].get('Message') or errors[0].get('Code')}")
            removed += len(objects)
            told(removed)
        return removed

    def _end_uploads(self) -> None:
        while begun := self._s3.list_multipart_uploads(**self._place, Prefix=self._prefix).get("Uploads"):
            for upload in begun:
                self._s3.abort_multipart_upload(**self._place, Key=upload["Key"], UploadId=upload["UploadId"])


def _versions(page: Mapping[str, Any]) -> Iterator[Version]:
    for one in page.get("Versions") or ():
        yield Version(str(one["Key"]), str(one["VersionId"]), int(one.get("Size") or 0), is_marker=False)
    for one in page.get("DeleteMarkers") or ():
        yield Version(str(one["Key"]), str(one["VersionId"]), 0, is_marker=True)
