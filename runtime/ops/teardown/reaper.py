"""`python -m runtime.ops reaper`: finds the expired stacks of a backend, warns before, and takes them down.

It only says what it would do unless told otherwise, and it never takes down a stack of environment `prod`
or one that does not say when it expires.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli, PulumiError
from runtime.ops.teardown.command import REACH, default_folder, told
from runtime.ops.teardown.journal import JournalError
from runtime.ops.teardown.ledger import read_ledger, resources_of
from runtime.ops.teardown.run import RefusedError, Teardown, Wishes
from runtime.ops.teardown.stack import PulumiStack
from runtime.tenure import Tenure

Verdict = Literal["expired", "expires soon", "lives", "production", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A stack of the backend.

    Attributes:
        stack: Its name.
        tenure: What it says of itself; None where it says nothing, or holds nothing.
        updated: When it was last updated; None where the backend does not know.
        resources: How many its state holds.
    """

    stack: str
    tenure: Tenure | None
    updated: datetime | None
    resources: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is to be done about a stack.

    Attributes:
        seen: The stack.
        verdict: Whether it expired.
        ends: When it expires, if it does.
        why: For a reader.
    """

    seen: Seen
    verdict: Verdict
    ends: datetime | None = None
    why: str

    @property
    def words(self) -> str:
        """One line for a reader."""
        owner = f" (owner {self.seen.tenure.owner})" if self.seen.tenure else ""
        return f"{self.seen.stack}{owner}: {self.verdict}, {self.why}"


def judge(seen: Seen, now: datetime, warn: timedelta) -> Judged:
    """Decides about one stack.

    Args:
        seen: The stack.
        now: The time, with its zone.
        warn: How long before its expiry it is warned of.
    """
    tenure = seen.tenure
    if tenure is None:
        return Judged(
            seen=seen, verdict="unknown", why="it does not say whose it is or until when; it is not touched"
        )
    if tenure.environment == "prod":
        return Judged(seen=seen, verdict="production", why="which is never taken down by itself")
    if tenure.expires is None or seen.updated is None:
        return Judged(
            seen=seen, verdict="unknown", why="nothing says until when it may be there; it is not touched"
        )
    try:
        ends = tenure.ends_at(seen.updated)
    except ValueError as error:
        return Judged(seen=seen, verdict="unknown", why=f"its expiry {tenure.expires!r} {error}")
    if ends is None:
        return Judged(seen=seen, verdict="unknown", why="it does not expire; it is not touched")
    when = f"{ends:%Y-%m-%d %H:%M} UTC"
    if now >= ends:
        return Judged(seen=seen, verdict="expired", ends=ends, why=f"since {when}")
    if now >= ends - warn:
        hours = (ends - now) / timedelta(hours=1)
        why = f"on {when}, in {hours:.0f} h; an `up` with a later `expires` keeps it"
        return Judged(seen=seen, verdict="expires soon", ends=ends, why=why)
    return Judged(seen=seen, verdict="lives", ends=ends, why=f"until {when}")


def reap(
    stacks: Iterable[Seen],
    now: datetime,
    warn: timedelta,
    take_down: Callable[[str], bool] | None,
    say: Callable[[str], None],
) -> bool:
    """Says what is to be done about each stack, and does it.

    Args:
        stacks: The stacks.
        now: The time, with its zone.
        warn: How long before its expiry a stack is warned of.
        take_down: Takes one down, and says whether nothing of it is left; None only says so.
        say: Takes one line.

    Returns:
        Whether everything that had to go is gone, proven.
    """
    good = True
    for one in stacks:
        if not one.resources:
            continue
        judged = judge(one, now, warn)
        say(judged.words)
        if judged.verdict != "expired":
            continue
        if take_down is None:
            say(f"{one.stack}: would be taken down; this is a dry run, say --really")
        elif not take_down(one.stack):
            say(f"{one.stack}: not clean; its certificate names what is left")
            good = False
    return good


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 0 if nothing that expired is left, or would be left."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    project = options.project.absolute()

    def take_down(stack: str) -> bool:
        cli = PulumiCli(project, stack, os.environ)
        teardown = Teardown(
            PulumiStack(cli, stack, progress),
            options.folder,
            REACH,
            progress,
            Wishes(delete_data=options.delete_data),
        )
        try:
            return told(teardown.run(), options.folder, stack) == 0
        except (RefusedError, JournalError, PulumiError) as error:
            print(f"{stack}: {error}", file=sys.stderr)
            return False

    try:
        seen = list(look(project, os.environ))
    except PulumiError as error:
        print(error, file=sys.stderr)
        return 1
    warn = timedelta(hours=options.warn_hours)
    good = reap(seen, datetime.now(UTC), warn, take_down if options.really else None, print)
    return 0 if good else 1


def look(project: Path, environment: Mapping[str, str]) -> Iterable[Seen]:
    """Reads every stack of the project's backend.

    Raises:
        PulumiError: The backend or a state cannot be read.
    """
    listed = json.loads(PulumiCli(project, "", environment).output("stack", "ls", "--json"))
    for one in listed:
        name = str(one["name"])
        yield read_stack(name, PulumiCli(project, name, environment).state())


def read_stack(name: str, state: Mapping[str, Any]) -> Seen:
    """What an exported state says of a stack."""
    resources = resources_of(state)
    written = state.get("deployment", {}).get("manifest", {}).get("time")
    updated = datetime.fromisoformat(str(written)) if written else None
    return Seen(
        stack=name,
        tenure=read_ledger(name, resources).tenure,
        updated=updated if updated is None or updated.tzinfo else updated.replace(tzinfo=UTC),
        resources=len(resources),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.ops reaper", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="folder with Pulumi.yaml")
    parser.add_argument("--folder", type=Path, default=default_folder(os.environ), help="of certificates")
    parser.add_argument("--warn-hours", type=float, default=24, help="how long before it warns")
    parser.add_argument("--delete-data", action="store_true", help="data in claims and buckets may go")
    parser.add_argument("--really", action="store_true", help="take expired stacks down, not only say so")
    return parser
