"""Command line of the benchmarks: `python -m benchmarks NAME [--quick]`, or `all` in turn."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import bring_up, burst, gateway, policy, preview, sagemaker, serving, site_start
from benchmarks.processes import BenchmarkError
from benchmarks.results import RESULTS
from rehearsal.site import SiteError
from rehearsal.tools import ToolError
from rehearsal.workspace import WorkspaceError
from runtime.ops.chat import ChatError
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiError

BENCHMARKS = {
    "preview": preview,
    "policy": policy,
    "gateway": gateway,
    "site": site_start,
    "up": bring_up,
    "serving": serving,
    "burst": burst,
    "sagemaker": sagemaker,
}
SITE = "bnc"

_ALL = "all"
_KNOWN = (BenchmarkError, SiteError, ToolError, WorkspaceError, PulumiError, ChatError)


def main() -> int:
    """Runs one benchmark; a quick run is printed, a whole one is also written to `benchmarks/results`."""
    arguments = _parser().parse_args()
    if arguments.name == _ALL:
        return _all(sys.argv[2:])
    try:
        with tempfile.TemporaryDirectory(prefix="spillway-bench-") as folder:
            Path(folder).chmod(0o711)  # pods of other users have their files below it
            found = BENCHMARKS[arguments.name].main(arguments, Path(folder), Progress())
    except _KNOWN as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(found.page())
    out = arguments.out or (None if arguments.quick else RESULTS)
    if out:
        found.write(out)
    return 0


def _all(options: list[str]) -> int:
    """Runs each in a process of its own; one that fails keeps none of the others from running."""
    failed = [
        name
        for name in BENCHMARKS
        if subprocess.run([sys.executable, "-m", "benchmarks", name, *options], check=False).returncode
    ]
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    helps = {name: (module.__doc__ or "").splitlines()[0] for name, module in BENCHMARKS.items()}
    for name, text in {**helps, _ALL: "all of them in turn"}.items():
        one = names.add_parser(name, help=text)
        one.add_argument("--quick", action="store_true", help="a few small runs, to see that it works")
        one.add_argument("--out", type=Path, help="folder for the results (default: benchmarks/results)")
        one.add_argument("--site", default=SITE, help="name of the embedded site (default: %(default)s)")
        if name in BENCHMARKS:
            BENCHMARKS[name].add_arguments(one)
    return parser


if __name__ == "__main__":
    sys.exit(main())
