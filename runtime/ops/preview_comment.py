"""The command `preview-comment`: previews a stack with all policies once, and writes what reviewers read."""

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import yaml

from runtime.ops.command import Command
from runtime.ops.preview.comment import FAILED, OK, Comment
from runtime.ops.preview.events import Preview, read_preview
from runtime.ops.preview.github import GitHubError, PullRequest, append_summary, commit_of_environment
from runtime.stack_resources import PreviewedStack, ResourcesError

# Exit status beside those of a comment.
DRIFTED: Final = 3

_STREAM: Final = "PULUMI_ENABLE_STREAMING_JSON_PREVIEW"
# The CLI takes any of its options from such a variable.
_PACK: Final = "PULUMI_OPTION_POLICY_PACK"
_PACK_CONFIG: Final = "PULUMI_OPTION_POLICY_PACK_CONFIG"
# Characters of what the CLI said that a reader needs where it did not begin.
_SAID: Final = 2000


class _NoCommentError(Exception):
    """There is nothing to comment on; the text is the whole message."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stack", help="the stack; `pulumi preview` is run in this folder")
    parser.add_argument(
        "--events", type=Path, help="file that a streaming preview wrote, instead of running one"
    )
    parser.add_argument("--keep-events", type=Path, help="file to keep the preview's events in")
    parser.add_argument(
        "--policy-config", type=Path, help="configuration of the policies (default: the stack's)"
    )
    parser.add_argument("--region", default="", help="AWS region, where the resources name none")
    parser.add_argument("--config-file", help="stack file (default: that of the project)")
    parser.add_argument("--refresh", action="store_true", help="look at what is really there first")
    parser.add_argument(
        "--expect-no-changes", action="store_true", help=f"exit status {DRIFTED} if anything would change"
    )
    parser.add_argument("--out", type=Path, help="file to write to, instead of standard output")
    parser.add_argument("--github", action="store_true", help="comment on the workflow's pull request")


def _run(given: argparse.Namespace) -> int:
    try:
        comment = _comment(given)
        markdown = comment.render()
        if given.out is None:
            sys.stdout.write(markdown)
        else:
            given.out.write_text(markdown)
        append_summary(os.environ, markdown)
        if given.github:
            print(PullRequest.of_environment(os.environ).put(comment.marker, markdown), file=sys.stderr)
    except (OSError, _NoCommentError, GitHubError) as error:
        print(f"no comment: {error}", file=sys.stderr)
        return FAILED
    if given.expect_no_changes and comment.status == OK and comment.preview.steps:
        return DRIFTED
    return comment.status


COMMAND: Final = Command(
    name="preview-comment",
    summary="What a preview would change, cost and destroy, and what policies say, as Markdown.",
    arguments=_arguments,
    run=_run,
)
main: Final = COMMAND.main


def _comment(given: argparse.Namespace) -> Comment:
    project = Path("Pulumi.yaml")
    name = str(yaml.safe_load(project.read_text())["name"]) if project.is_file() else ""
    config = given.policy_config or _policy_config(given.stack)
    if given.events is not None:
        lines, said = given.events.read_text().split("\n"), ""
    elif given.stack:
        options = ["--refresh"] if given.refresh else []
        if given.config_file is not None:
            options += ["--config-file", given.config_file]
        lines, said = _previewed(given.stack, config, options)
        if given.keep_events is not None:
            given.keep_events.write_text("\n".join(lines))
    else:
        raise _NoCommentError("neither --stack nor --events is given; name one of them")
    preview = _read(lines, said)
    return Comment(
        preview=preview,
        project=preview.project or name,
        stack=preview.stack or given.stack or "",
        made=dt.datetime.now(dt.UTC),
        commit=commit_of_environment(os.environ),
        region=given.region,
        limits=_limits(config),
    )


def _previewed(stack: str, config: Path | None, options: Sequence[str]) -> tuple[Sequence[str], str]:
    """The lines of a preview, and what the CLI said beside them."""
    environment = {**os.environ, _STREAM: "true"}
    if _PACK not in environment and Path("policies").is_dir():
        environment[_PACK] = "policies"
    if config is not None:
        environment[_PACK_CONFIG] = str(config)
    command = ["pulumi", "preview", "--json", "--non-interactive", "--stack", stack]
    try:
        done = subprocess.run(
            [*command, *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise _NoCommentError(
            "there is no pulumi on PATH; install it, or `make env` and source its file"
        ) from None
    return done.stdout.split("\n"), done.stderr if done.returncode else ""


def _read(lines: Sequence[str], said: str) -> Preview:
    try:
        return read_preview(lines)
    except ResourcesError as error:
        # It failed before its first event, and a reviewer must read why.
        why = said.strip()[-_SAID:] or "\n".join(lines)[-_SAID:].strip() or str(error)
        nothing = PreviewedStack(before=(), after=(), errors=(why,))
        return Preview(stack="", project="", resources=nothing, steps=(), errors=(why,))


def _policy_config(stack: str | None) -> Path | None:
    """The configuration of a stack's policies, as `make preview` finds it."""
    named = os.environ.get(_PACK_CONFIG)
    if named or _PACK in os.environ:
        # Packs of the shell's own have a configuration of their own, or none.
        return Path(named) if named else None
    place = Path("policies", "config", f"{stack}.json")
    return place if place.is_file() else None


def _limits(config: Path | None) -> Mapping[str, Mapping[str, object]]:
    if config is None:
        return {}
    try:
        content: Any = json.loads(config.read_text())
    except ValueError as error:
        raise _NoCommentError(f"{config} is no JSON ({error}); correct it") from None
    if not isinstance(content, dict):
        return {}
    rules = cast("Mapping[str, object]", content)
    return {
        rule: cast("Mapping[str, object]", limits)
        for rule, limits in rules.items()
        if isinstance(limits, dict)
    }
