"""Command line of the embedded site: `python -m rehearsal.site start|stop|status|logs`."""

import argparse
import datetime
import sys
from pathlib import Path

from rehearsal.site.components import COMPONENTS
from rehearsal.site.layout import DEFAULT_SITE, SiteError, default_home
from rehearsal.site.site import NOT_STARTED, Site, SiteStatus
from rehearsal.tools import Toolbox, ToolError
from runtime.ops.progress import Progress

TOOL_GROUPS = ("site", "gateway", "serving")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 is good, 1 is not, 130 is interrupted."""
    options = _parser().parse_args(arguments)
    try:
        site = Site(options.site, options.home or default_home())
        if options.command == "start":
            return _start(site)
        if options.command == "stop":
            return _stop(site, keep_data=options.keep_data)
        if options.command == "status":
            return _status(site, as_json=options.json)
        return _logs(site, options.component)
    except (SiteError, ToolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "interrupted: what was started stays; run start again to go on or stop to remove it",
            file=sys.stderr,
        )
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rehearsal.site", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--site", default=DEFAULT_SITE, help="name of the site (default: %(default)s)")
    common.add_argument("--home", type=Path, help="Spillway's state home (default: $SPILLWAY_HOME)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", parents=[common], help="start it, or start again what does not run")
    stop = commands.add_parser("stop", parents=[common], help="end it and prove that nothing is left")
    stop.add_argument(
        "--keep-data", action="store_true", help="keep the cluster's objects for the next start"
    )
    status = commands.add_parser("status", parents=[common], help="show how each component is")
    status.add_argument("--json", action="store_true", help="as JSON")
    logs = commands.add_parser("logs", parents=[common], help="show the log of a component")
    logs.add_argument("component", nargs="?", choices=COMPONENTS, help="without one: where all logs are")
    return parser


def _start(site: Site) -> int:
    progress = Progress()
    site.start(Toolbox.load(TOOL_GROUPS), progress)
    progress.line(f"site {site.layout.name!r} is ready")
    print(f"export KUBECONFIG={site.kubeconfig}")
    return 0


def _stop(site: Site, *, keep_data: bool) -> int:
    left = site.stop(Progress(), keep_data=keep_data)
    print("looked for what could be left:")
    for line in left.lines():
        print(f"  {line}")
    if left:
        print(f"error: site {site.layout.name!r} left something behind, see above", file=sys.stderr)
        return 1
    return 0


def _status(site: Site, *, as_json: bool) -> int:
    try:
        tools = Toolbox.load(TOOL_GROUPS)
    except ToolError:
        # Without the tools nothing can be asked for its health, but what runs can still be told.
        tools = None
    status = site.status(tools)
    print(status.as_json() if as_json else _table(status))
    return 0 if status.healthy and not status.beyond else 1


def _table(status: SiteStatus) -> str:
    if all(component.problem == NOT_STARTED for component in status.components):
        return f"site {status.site!r} does not run; `make up` starts it"
    rows: list[str] = []
    for component in status.components:
        if component.pid is None or component.since is None:
            rows.append(f"{component.component:<24} -        {component.problem}; log: {component.log}")
            continue
        since = datetime.datetime.fromtimestamp(component.since).astimezone().isoformat(timespec="seconds")
        health = f"{component.problem}; log: {component.log}" if component.problem else "healthy"
        rows.append(f"{component.component:<24} {component.pid:<8} {since}  {health}")
    return "\n".join([*rows, *status.beyond, f"kubeconfig: {status.kubeconfig}"])


def _logs(site: Site, component: str | None) -> int:
    if component is None:
        print(site.layout.logs)
        return 0
    path = site.logs(component)
    with path.open(errors="replace") as log:
        for line in log:
            sys.stdout.write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
