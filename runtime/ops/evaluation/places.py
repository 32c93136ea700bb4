"""Where jobs, data sets and results are: folders here, or prefixes in S3."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import boto3  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

_S3 = "s3://"


class PlaceError(Exception):
    """A place cannot be read or written; the text names it and says why."""


class Client(Protocol):
    """A boto3 client."""

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        """One of its operations."""
        ...


def region() -> str:
    """The region that AWS' own tools would take.

    Raises:
        PlaceError: None is set.
    """
    session: Any = boto3.Session()
    found: str | None = session.region_name
    if found is None:
        raise PlaceError("no region of AWS is set; set AWS_DEFAULT_REGION")
    return found


@cache
def aws(service: str) -> Client:
    """A client with the credentials and the region that AWS' own tools would take."""
    # boto3 makes the classes of its clients at run time, so there are no types to name.
    session: Any = boto3.Session()
    return session.client(service)


def read(place: str) -> bytes:
    """Reads a file or an object.

    Raises:
        PlaceError: It cannot be read.
    """
    if not place.startswith(_S3):
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise PlaceError(f"{place}: {error.strerror}; name a file, or s3://BUCKET/KEY") from error
    bucket, key = _split(place)
    try:
        content: bytes = aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except (BotoCoreError, ClientError) as error:
        raise PlaceError(f"{place}: {error}") from error
    return content


def write(place: str, content: bytes) -> None:
    """Writes a file, or an object, for which the bucket's own encryption holds.

    Raises:
        PlaceError: It cannot be written.
    """
    if not place.startswith(_S3):
        try:
            Path(place).write_bytes(content)
        except OSError as error:
            raise PlaceError(f"{place}: {error.strerror}; name a folder, or s3://BUCKET/PREFIX") from error
        return
    bucket, key = _split(place)
    try:
        aws("s3").put_object(Bucket=bucket, Key=key, Body=content)
    except (BotoCoreError, ClientError) as error:
        raise PlaceError(f"{place}: {error}") from error


def store(folder: Path, prefix: str) -> int:
    """Copies the files of a folder below a prefix, and returns how many they were.

    Raises:
        PlaceError: One cannot be written.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        write(beside(prefix, path.name), path.read_bytes())
    return len(files)


def beside(place: str, name: str) -> str:
    """The file of that name in a folder or below a prefix."""
    return f"{place.rstrip('/')}/{name}"


def _split(place: str) -> tuple[str, str]:
    bucket, _, key = place.removeprefix(_S3).partition("/")
    if not place.startswith(_S3) or not bucket or not key:
        raise PlaceError(f"{place}: write s3://BUCKET/KEY")
    return bucket, key
