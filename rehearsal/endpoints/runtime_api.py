"""The double of SageMaker's runtime API while a rehearsal lasts, with the stack's own endpoints."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from rehearsal.endpoints.processes import ServerError
from rehearsal.sagemaker_runtime.double import TEST_SECRETS, Double, serving
from rehearsal.sagemaker_runtime.followed import UrlOf, follow, following

CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": next(iter(TEST_SECRETS)),
    "AWS_SECRET_ACCESS_KEY": next(iter(TEST_SECRETS.values())),
}
"""What callers of the double sign with."""

_END_S = 20.0


class RuntimeApi:
    """Serves the double in a thread; it follows the account that SageMaker's other API shows.

    Args:
        sagemaker: boto3's client of the AWS double.
        url_of: Who answers for a model.
        region: The region that callers sign for.
    """

    def __init__(self, sagemaker: Any, url_of: UrlOf, region: str) -> None:
        self.double = Double({}, region=region)
        self._sagemaker = sagemaker
        self._url_of = url_of
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._url = ""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="SageMaker runtime API", daemon=True)

    def start(self) -> str:
        """Returns its URL once every endpoint has what answers for it.

        Raises:
            ServerError: A container does not start.
        """
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise ServerError(f"the double of SageMaker's runtime API: {self._error}") from self._error
        return self._url

    def look(self) -> None:
        """Follows the account now, and not within the second that it would take by itself."""
        coroutine = follow(self.double, self._sagemaker, self._url_of)
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def end(self) -> None:
        """Ends it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_END_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        async with following(self.double, self._sagemaker, self._url_of), serving(self.double) as url:
            self._url = url
            self._ready.set()
            await self._stop.wait()
