"""The command `cost`: what a stack costs, from a preview, an exported state or a preview's events."""

import argparse
import datetime as dt
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from runtime.cost.estimate import estimate
from runtime.cost.report_html import as_html
from runtime.cost.report_json import as_json
from runtime.cost.report_markdown import as_markdown
from runtime.cost.report_text import as_text
from runtime.cost.summary import Report
from runtime.ops.command import Command
from runtime.ops.pulumi_cli import PulumiCli, PulumiError
from runtime.ops.stack_expiry import expiry_of
from runtime.stack_resources import ResourcesError, StackResource, from_preview_events, from_state

FORMATS: Final[Mapping[str, Callable[[Report], str]]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "html": as_html,
}
_STREAM: Final = {"PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}


def _arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--stack", help="the stack; `pulumi preview` is run in this folder")
    source.add_argument("--state", help="file that `pulumi stack export` wrote; - for standard input")
    source.add_argument("--events", help="file that a streaming preview wrote; - for standard input")
    parser.add_argument("--before", help="file of an earlier state, to show the change from it")
    parser.add_argument("--title", help="what the report calls it")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--out", type=Path, help="file to write to, instead of standard output")
    parser.add_argument(
        "--expires",
        type=_time,
        help="when the stack goes, as 2026-12-31T18:00+01:00; without it, what its tags say",
    )
    parser.add_argument("--region", default="", help="AWS region, where the resources name none")


def _run(given: argparse.Namespace) -> int:
    try:
        before, after, title = _resources(given)
    except (OSError, ValueError, ResourcesError, PulumiError) as error:
        print(f"no estimate: {error}", file=sys.stderr)
        return 1
    now = dt.datetime.now(dt.UTC)
    report = Report(
        title=given.title or title,
        estimate=estimate(after, region=given.region),
        made=now,
        expires=given.expires or expiry_of(after, now),
        before=None if before is None else estimate(before, region=given.region),
    )
    text = FORMATS[given.format](report)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text)
    return 0


COMMAND: Final = Command(
    name="cost",
    summary="What a stack costs: floor, expected, ceiling, accelerators, and what is unpriced.",
    arguments=_arguments,
    run=_run,
)
main: Final = COMMAND.main


Resources = Sequence[StackResource]


def _resources(given: argparse.Namespace) -> tuple[Resources | None, Resources, str]:
    """What there was, if that is known, what there is, and what the two are called."""
    if given.state is not None:
        before = None if given.before is None else _state(given.before)
        return before, _state(given.state), f"state {given.state}"
    if given.events is not None:
        lines, title = _text(given.events).splitlines(), f"preview {given.events}"
    else:
        cli = PulumiCli(Path.cwd(), given.stack, {**os.environ, **_STREAM})
        lines = cli.output("preview", "--json", "--stack", given.stack).splitlines()
        title = f"stack {given.stack}"
    previewed = from_preview_events(lines)
    if previewed.errors:
        raise ResourcesError(f"the preview failed: {previewed.errors[0]}")
    before = previewed.before if given.before is None else _state(given.before)
    # Of a stack that is not there yet all is new, and no change worth a table.
    return before or None, previewed.after, title


def _state(path: str) -> Resources:
    document = json.loads(_text(path))
    if not isinstance(document, dict):
        raise ResourcesError(f"{path} is no object; give the output of `pulumi stack export`")
    return from_state(cast("dict[str, object]", document))


def _text(path: str) -> str:
    return sys.stdin.read() if path == "-" else Path(path).read_text()


def _time(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no time; write it as 2026-12-31T18:00+01:00") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
