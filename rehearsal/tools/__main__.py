"""Command line: `python -m rehearsal.tools ensure [GROUP...] | status | clean`."""

import argparse
import sys
from collections.abc import Sequence

from rehearsal.tools.cache import Cache, Source, size_of
from rehearsal.tools.catalogue import GO_TOOL, PACKAGES, Group, Tool, tools
from rehearsal.tools.errors import ToolError
from rehearsal.tools.making import ensure
from rehearsal.tools.packages import installed_version, is_present, package_folder, system_program
from runtime.ops.progress import Progress

MEGABYTE = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal.tools", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ensuring = commands.add_parser("ensure", help="get every tool of some groups that is missing")
    ensuring.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(Group)}; default: all")
    commands.add_parser("status", help="show which tools are there and where they came from")
    commands.add_parser("clean", help="remove what Spillway made in the cache")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "ensure":
            ensure(chosen.groups or tuple(Group), Progress())
        elif chosen.command == "status":
            print(_status())
        else:
            cache = Cache.locate()
            freed = f"{cache.clean() / MEGABYTE:,.0f} MB freed"
            kept = "; what is left there is not Spillway's" if cache.root.exists() else ""
            print(f"removed {cache.root}: {freed}{kept}")
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _status() -> str:
    cache = Cache.locate()
    rows = [("TOOL", "VERSION", "SOURCE", "SIZE", "WHERE", "WHY")]
    rows += [_tool_row(cache, tool) for tool in tools()]
    if cache.receipt(GO_TOOL):
        rows.append(_tool_row(cache, GO_TOOL))
    for package in PACKAGES:
        place = package_folder(package) or next(map(system_program, package.programs), None)
        there = is_present(package)
        source = str(Source.PACKAGE) if there else "missing"
        rows.append(
            (package.name, installed_version(package), source, "", str(place or "") if there else "", "")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join([f"cache: {cache.root}", *lines])


def _tool_row(cache: Cache, tool: Tool) -> tuple[str, str, str, str, str, str]:
    receipt = cache.receipt(tool)
    if not receipt:
        return (tool.name, tool.version, "missing", "", "", f"ensure {tool.group}")
    folder = cache.folder(tool)
    size = f"{size_of(folder) / MEGABYTE:,.0f} MB"
    where = str(folder.relative_to(cache.root))
    return (
        tool.name,
        tool.version,
        receipt.source,
        size,
        where,
        f"{receipt.detail} ({receipt.seconds:.0f} s)",
    )


if __name__ == "__main__":
    sys.exit(main())
