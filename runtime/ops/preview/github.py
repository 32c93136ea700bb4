"""One comment per stack on a pull request of GitHub, edited in place, by the REST API."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

_PER_PAGE: Final = 100
_TIMEOUT_S: Final = 30.0
# Who writes with the token that a workflow is given.
_WORKFLOW: Final = "github-actions[bot]"


class GitHubError(Exception):
    """GitHub cannot be asked or refused; the text is the whole message."""


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """A pull request, and who comments on it.

    Attributes:
        api: Base address of the API.
        repository: OWNER/NAME.
        number: Its number.
        token: What to authenticate with.
        author: Login of whoever the token belongs to; only their comments are edited.
    """

    api: str
    repository: str
    number: int
    token: str
    author: str = _WORKFLOW

    @staticmethod
    def of_environment(environment: Mapping[str, str]) -> "PullRequest":
        """The pull request of the workflow that this runs in.

        Raises:
            GitHubError: With what is missing, and where it comes from.
        """
        missing = [name for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY") if not environment.get(name)]
        if missing:
            raise GitHubError(
                f"{' and '.join(missing)} not set; a workflow sets them with `env: GITHUB_TOKEN: "
                "${{ github.token }}`"
            )
        return PullRequest(
            api=environment.get("GITHUB_API_URL", "https://api.github.com"),
            repository=environment["GITHUB_REPOSITORY"],
            number=_number(environment),
            token=environment["GITHUB_TOKEN"],
            author=environment.get("SPILLWAY_COMMENT_AUTHOR", _WORKFLOW),
        )

    def put(self, marker: str, body: str) -> str:
        """Writes the comment that begins with the marker: edits it if it is there, and makes it if not.

        Returns:
            Its address.

        Raises:
            GitHubError: GitHub cannot be asked, or refused.
        """
        own = next((comment for comment in self._comments() if self._is_own(comment, marker)), None)
        issues = f"/repos/{self.repository}/issues"
        if own is None:
            answer = self._ask("POST", f"{issues}/{self.number}/comments", {"body": body})
        else:
            answer = self._ask("PATCH", f"{issues}/comments/{own['id']}", {"body": body})
        return str(_object(answer).get("html_url", ""))

    def _is_own(self, comment: Mapping[str, Any], marker: str) -> bool:
        # Somebody else's comment may quote the marker.
        author = _object(comment.get("user")).get("login")
        return author == self.author and str(comment.get("body", "")).startswith(marker)

    def _comments(self) -> Iterator[Mapping[str, Any]]:
        page = 1
        while True:
            place = f"/repos/{self.repository}/issues/{self.number}/comments"
            found = self._ask("GET", f"{place}?per_page={_PER_PAGE}&page={page}")
            comments = cast("list[Any]", found) if isinstance(found, list) else []
            yield from map(_object, comments)
            if len(comments) < _PER_PAGE:
                return
            page += 1

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> object:
        request = urllib.request.Request(  # noqa: S310 - the address is the workflow's own
            f"{self.api}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            hint = "; the job needs `permissions: pull-requests: write`" if error.code == 403 else ""
            raise GitHubError(f"GitHub answered {error.code} to {method} {path}{hint}") from None
        except (OSError, ValueError) as error:
            raise GitHubError(f"GitHub cannot be asked at {self.api}: {error}") from None


def append_summary(environment: Mapping[str, str], markdown: str) -> None:
    """Adds the comment to the summary of the workflow's step; does nothing outside of one."""
    if place := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(place).open("a", encoding="utf-8") as summary:
            summary.write(f"{markdown}\n")


def commit_of_environment(environment: Mapping[str, str]) -> str:
    """The commit that the workflow is about; of a pull request its head, not the merge."""
    head = _object(_pull_request(environment).get("head")).get("sha")
    return str(head or environment.get("GITHUB_SHA") or environment.get("CI_COMMIT_SHA") or "")


def _number(environment: Mapping[str, str]) -> int:
    number = _pull_request(environment).get("number")
    if not isinstance(number, int):
        raise GitHubError(
            "GITHUB_EVENT_PATH names no pull request; run it in a workflow on `pull_request`, "
            "or leave --github out"
        )
    return number


def _pull_request(environment: Mapping[str, str]) -> Mapping[str, Any]:
    place = environment.get("GITHUB_EVENT_PATH", "")
    if not os.path.isfile(place):  # noqa: PTH113 - an empty text is no path
        return {}
    try:
        event: object = json.loads(Path(place).read_text())
    except ValueError:
        return {}
    return _object(_object(event).get("pull_request"))


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
