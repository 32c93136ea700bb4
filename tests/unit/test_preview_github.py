"""One comment per stack on a pull request, against a small server that speaks GitHub's REST API."""

import json
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from runtime.ops.preview.github import (
    GitHubError,
    PullRequest,
    append_summary,
    commit_of_environment,
)

MARKER = "<!-- spillway:demo/dev -->"
BOT = "github-actions[bot]"


@dataclass
class GitHub:
    """The comments of pull request 7, and what was done to them."""

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pages: list[int] = field(default_factory=list[int])
    refuses: int = 0

    def add(self, body: str, author: str = BOT) -> None:
        number = len(self.comments) + 1
        self.comments.append(
            {"id": number, "body": body, "user": {"login": author}, "html_url": f"c{number}"}
        )

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.refuses:
            return self.refuses, {}
        asked = urlsplit(path)
        match method, asked.path:
            case "GET", "/repos/us/llm/issues/7/comments":
                query = parse_qs(asked.query)
                page, size = int(query["page"][0]), int(query["per_page"][0])
                self.pages.append(page)
                return 200, self.comments[(page - 1) * size : page * size]
            case "POST", "/repos/us/llm/issues/7/comments":
                self.add(body["body"])
                return 201, self.comments[-1]
            case "PATCH", place if place.startswith("/repos/us/llm/issues/comments/"):
                comment = self.comments[int(place.rpartition("/")[2]) - 1]
                comment["body"] = body["body"]
                return 200, comment
            case _:
                return 404, {}


@pytest.fixture
def github() -> Generator[GitHub]:
    there = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            allowed = self.headers["Authorization"] == "Bearer token"
            status, answer = there.answer(self.command, self.path, body) if allowed else (401, None)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - the names are the library's

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield there
    server.shutdown()
    thread.join()
    server.server_close()


def pull_request(github: GitHub) -> PullRequest:
    return PullRequest(api=github.url, repository="us/llm", number=7, token="token")


def test_the_first_comment_of_a_stack_is_made(github: GitHub) -> None:
    github.add("Looks good to me.", author="alice")
    assert pull_request(github).put(MARKER, f"{MARKER}\none") == "c2"
    assert [comment["body"] for comment in github.comments] == ["Looks good to me.", f"{MARKER}\none"]


def test_the_next_one_edits_it_in_place(github: GitHub) -> None:
    request = pull_request(github)
    request.put(MARKER, f"{MARKER}\none")
    assert request.put(MARKER, f"{MARKER}\ntwo") == "c1"
    assert [comment["body"] for comment in github.comments] == [f"{MARKER}\ntwo"]


def test_each_stack_has_its_own(github: GitHub) -> None:
    request = pull_request(github)
    other = "<!-- spillway:demo/development -->"
    request.put(MARKER, f"{MARKER}\none")
    request.put(other, f"{other}\ntwo")
    assert len(github.comments) == 2


def test_nobody_elses_comment_is_edited_even_if_it_has_the_mark(github: GitHub) -> None:
    github.add(f"{MARKER}\nmine", author="mallory")
    github.add(f"> {MARKER}\nquoted")
    pull_request(github).put(MARKER, f"{MARKER}\none")
    assert [comment["body"] for comment in github.comments][:2] == [f"{MARKER}\nmine", f"> {MARKER}\nquoted"]
    assert len(github.comments) == 3


def test_a_comment_on_a_later_page_is_found(github: GitHub) -> None:
    for number in range(150):
        github.add(f"comment {number}", author="alice")
    github.add(f"{MARKER}\none")
    pull_request(github).put(MARKER, f"{MARKER}\ntwo")
    assert github.pages == [1, 2]
    assert github.comments[150]["body"] == f"{MARKER}\ntwo"
    assert len(github.comments) == 151


def test_a_refusal_says_which_permission_the_job_needs(github: GitHub) -> None:
    github.refuses = 403
    with pytest.raises(
        GitHubError, match=r"answered 403 to GET .* needs `permissions: pull-requests: write`"
    ):
        pull_request(github).put(MARKER, MARKER)


def test_a_server_that_is_not_there_is_one_message() -> None:
    request = PullRequest(api="http://127.0.0.1:9", repository="us/llm", number=7, token="token")
    with pytest.raises(GitHubError, match=r"cannot be asked at http://127\.0\.0\.1:9"):
        request.put(MARKER, MARKER)


def event_file(folder: Path) -> dict[str, str]:
    file = folder / "event.json"
    file.write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": "head"}}}))
    return {"GITHUB_EVENT_PATH": str(file), "GITHUB_TOKEN": "token", "GITHUB_REPOSITORY": "us/llm"}


def test_a_workflow_says_which_pull_request_and_commit_it_is_about(tmp_path: Path) -> None:
    environment = {**event_file(tmp_path), "GITHUB_SHA": "merge"}
    request = PullRequest.of_environment(environment)
    assert (request.repository, request.number, request.author) == ("us/llm", 7, BOT)
    assert commit_of_environment(environment) == "head"
    assert commit_of_environment({"GITHUB_SHA": "pushed"}) == "pushed"
    assert commit_of_environment({}) == ""


@pytest.mark.parametrize("missing", ["GITHUB_EVENT_PATH", "GITHUB_TOKEN", "GITHUB_REPOSITORY"])
def test_outside_of_a_pull_request_it_says_what_is_missing(tmp_path: Path, missing: str) -> None:
    environment = {name: value for name, value in event_file(tmp_path).items() if name != missing}
    with pytest.raises(GitHubError, match=missing):
        PullRequest.of_environment(environment)


def test_the_steps_summary_is_added_to_and_only_in_a_workflow(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    append_summary({}, "nowhere")
    append_summary({"GITHUB_STEP_SUMMARY": str(summary)}, "one")
    append_summary({"GITHUB_STEP_SUMMARY": str(summary)}, "two")
    assert summary.read_text() == "one\ntwo\n"
