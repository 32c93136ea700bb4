"""Masked lines become files in S3: held until there are enough, or old enough, and encrypted with a key."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

from runtime.sagemaker_gateway.capture.config import CaptureConfig


class Storage(Protocol):
    """Where files go."""

    def put(self, key: str, content: bytes) -> None:
        """Writes one; blocks.

        Raises:
            StorageError: It is not written.
        """
        ...


class StorageError(Exception):
    """A file was not written; the text is AWS's code, or the kind of the failure."""


class Bucket:
    """The bucket, by one botocore client."""

    def __init__(self, client: Any, config: CaptureConfig) -> None:
        """Makes one.

        Args:
            client: botocore's client of S3.
            config: Names bucket and key.
        """
        self._client = client
        self._config = config

    def put(self, key: str, content: bytes) -> None:
        """Writes a file, encrypted with the key."""
        try:
            self._client.put_object(
                Bucket=self._config.bucket,
                Key=key,
                Body=content,
                ContentType="application/jsonlines",
                ServerSideEncryption="aws:kms",
                SSEKMSKeyId=self._config.kms_key_id,
                BucketKeyEnabled=True,
            )
        except ClientError as error:
            said: Any = error.response
            raise StorageError(str(said.get("Error", {}).get("Code", "ClientError"))) from None
        except BotoCoreError as error:
            raise StorageError(type(error).__name__) from None


class Files:
    """Lines that wait for S3, by folder. What could not be written is tried again."""

    def __init__(self, config: CaptureConfig, storage: Storage, now: Callable[[], datetime]) -> None:
        """Makes one.

        Args:
            config: Says how much may wait.
            storage: Where files go.
            now: The time in UTC.
        """
        self._config = config
        self._storage = storage
        self._now = now
        self._waiting: dict[str, list[bytes]] = {}
        self._size = 0

    @property
    def lines(self) -> int:
        """Lines that wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, folder: str, line: bytes) -> bool:
        """Takes a line.

        Args:
            folder: Prefix, endpoint and variant, with a slash at the end.
            line: The masked line.

        Returns:
            Whether there was room for it.
        """
        if self._size + len(line) > self._config.max_held_bytes:
            return False
        self._waiting.setdefault(folder, []).append(line)
        self._size += len(line)
        return True

    @property
    def is_long(self) -> bool:
        """Whether a file is as long as one may become."""
        return any(sum(map(len, lines)) >= self._config.max_file_bytes for lines in self._waiting.values())

    async def flush(self) -> tuple[int, list[StorageError]]:
        """Writes everything that waits, a file for each folder, in a thread. One at a time may.

        Returns:
            Lines that were written, and why files were not; the lines of these still wait.
        """
        written, refused = 0, list[StorageError]()
        for folder, lines in list(self._waiting.items()):
            now = self._now()
            key = f"{folder}{now:%Y/%m/%d/%H/%M-%S}-{uuid.uuid4()}.jsonl"
            taken = len(lines)
            try:
                await asyncio.to_thread(self._storage.put, key, b"".join(lines))
            except StorageError as error:
                refused.append(error)
                continue
            # What came meanwhile is behind them.
            self._size -= sum(map(len, lines[:taken]))
            del lines[:taken]
            written += taken
            if not lines:
                del self._waiting[folder]
        return written, refused
