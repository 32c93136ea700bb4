"""Command line of the AWS double: `python -m rehearsal.aws start|stop|status|left|script`."""

import argparse
import json
import os
import sys
from pathlib import Path

from rehearsal.aws.account import AwsDouble
from rehearsal.aws.clients import DoubleError
from rehearsal.site.layout import default_home


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0 is good, 1 is not."""
    options = _parser().parse_args(arguments)
    if options.command == "serve":
        from rehearsal.aws.server import serve  # moto takes a second to import; no other command needs it

        serve(options.folder, options.port)
        return 0
    double = AwsDouble(options.home or default_home(os.environ))
    try:
        return _run(double, options)
    except DoubleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(double: AwsDouble, options: argparse.Namespace) -> int:
    if options.command == "start":
        double.start()
        for name, value in double.environment.items():
            print(f"export {name}={value}")
        return 0
    if options.command == "stop":
        double.stop(forget=not options.keep_data)
        return 0
    if options.command == "script":
        text = sys.stdin.read() if str(options.file) == "-" else options.file.read_text()
        double.put_script(json.loads(text))
        return 0
    if options.command == "left":
        left = double.leftovers()
        print("\n".join(left) or "nothing")
        return 1 if left else 0
    healthy = double.is_healthy()
    print(f"{double.endpoint}  pid {double.pid or '-'}  {'healthy' if healthy else 'does not answer'}")
    for group in double.node_groups() if healthy else []:
        print(json.dumps(group))
    return 0 if healthy else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rehearsal.aws", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, help="Spillway's state home (default: $SPILLWAY_HOME)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", parents=[common], help="start it; prints what to export")
    stop = commands.add_parser("stop", parents=[common], help="end it and forget what it holds")
    stop.add_argument("--keep-data", action="store_true", help="keep what it holds for the next start")
    commands.add_parser("status", parents=[common], help="whether it answers, and its node groups")
    commands.add_parser("left", parents=[common], help="what is left in the account")
    script = commands.add_parser("script", parents=[common], help="tell it what to do wrong")
    script.add_argument("file", type=Path, help="JSON, see rehearsal/aws/capacity.py; - for stdin")
    serve = commands.add_parser("serve", help="what start runs")
    serve.add_argument("folder", type=Path)
    serve.add_argument("port", type=int)
    return parser


if __name__ == "__main__":
    sys.exit(main())
