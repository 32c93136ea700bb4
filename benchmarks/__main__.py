"""Command line of the benchmarks: `python -m benchmarks NAME [--quick]`."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import bring_up, gateway, preview, serving, site_start
from benchmarks.processes import ServerError
from benchmarks.results import RESULTS
from rehearsal.site import SiteError
from rehearsal.tools import ToolError
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiError

BENCHMARKS = {
    "preview": preview,
    "gateway": gateway,
    "site": site_start,
    "up": bring_up,
    "serving": serving,
}
SITE = "bnc"


def main() -> int:
    """Runs one benchmark; a quick run is printed, a whole one is also written to `benchmarks/results`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHMARKS.items():
        one = names.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        one.add_argument("--quick", action="store_true", help="a few small runs, to see that it works")
        one.add_argument("--out", type=Path, help="folder for the results (default: benchmarks/results)")
        one.add_argument("--site", default=SITE, help="name of the embedded site (default: %(default)s)")
        module.add_arguments(one)
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="spillway-bench-") as folder:
            Path(folder).chmod(0o711)  # pods of other users have their files below it
            found = BENCHMARKS[arguments.name].main(arguments, Path(folder), Progress())
    except (SiteError, ToolError, PulumiError, ServerError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(found.page())
    out = arguments.out or (None if arguments.quick else RESULTS)
    if out:
        found.write(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
