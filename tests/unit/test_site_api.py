"""The client of the site's API server, where the server is slow to get ready."""

import json
from typing import Any

import pytest

from rehearsal.site import api as module
from rehearsal.site.api import ApiClient, ApiError

CONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"namespace": "a", "name": "b"},
}


class Busy(ApiClient):
    """Answers with these statuses in turn; 200 is a success, 0 no answer in time."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)

    def request(self, *_: Any, **__: Any) -> bytes:
        status = self.statuses.pop(0)
        if not status:
            raise TimeoutError("The read operation timed out")
        if status != 200:
            raise ApiError(status, "etcdserver: request timed out")
        return json.dumps(CONFIG).encode()


@pytest.fixture(autouse=True)
def fixture_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_APPLY_PAUSE_S", 0.0)


def test_what_a_busy_server_did_not_take_is_applied_again() -> None:
    assert Busy(500, 429, 200).apply(CONFIG) == CONFIG


def test_what_was_not_answered_in_time_is_applied_again() -> None:
    assert Busy(0, 0, 200).apply(CONFIG) == CONFIG


def test_what_a_server_refuses_is_not_tried_again() -> None:
    server = Busy(403, 200)
    with pytest.raises(ApiError, match="403"):
        server.apply(CONFIG)
    assert server.statuses == [200]


def test_a_server_that_stays_busy_is_given_up() -> None:
    with pytest.raises(ApiError, match="500: etcdserver: request timed out"):
        Busy(*[500] * 20).apply(CONFIG)
