"""Command line: `python -m rehearsal.images build | push REGISTRY/PATH`."""

import argparse
import sys
from collections.abc import Sequence

from rehearsal.images.building import build_images, current_images
from rehearsal.images.layout import BuiltImage, layout_folder, read_layout
from rehearsal.images.publishing import check_place, publish
from rehearsal.images.recipes import (
    BURST_CONTROLLER,
    EVALUATION,
    GATEWAY,
    SAGEMAKER_GATEWAY,
    SERVING_CHECK,
    image_name,
)
from rehearsal.site.layout import REGISTRY
from rehearsal.tools.cache import Cache
from rehearsal.tools.errors import ToolError
from runtime.ops.progress import Progress

MEGABYTE = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the images with Debian's newest packages")
    pushing = commands.add_parser("push", help="publish what was built; builds first where that is outdated")
    pushing.add_argument("place", metavar="REGISTRY/PATH")
    chosen = parser.parse_args(arguments)
    try:
        print(_build() if chosen.command == "build" else _push(chosen.place))
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was built before is still there", file=sys.stderr)
        return 130
    return 0


def _build() -> str:
    cache = Cache.locate()
    before = {image.digest for image in read_layout(layout_folder(cache))}
    images = build_images(cache, Progress())
    hint = "The embedded site has what clusters run from its next start on. In a stack file for it:"
    return "\n".join([table(images, before), "", hint, stack_lines(images, REGISTRY)])


def _push(place: str) -> str:
    check_place(place)
    cache, progress = Cache.locate(), Progress()
    images = current_images(cache) or build_images(cache, progress)
    publish(images, place, cache, progress)
    lines = ["In the stack file:", stack_lines(images, place), "", "In one of scenario sagemaker:"]
    return "\n".join([table(images, set()), "", *lines, sagemaker_lines(images, place)])


def table(images: Sequence[BuiltImage], before: set[str]) -> str:
    """Name, version, size and digest of each image; those that were there before are marked so."""
    rows = [("IMAGE", "VERSION", "SIZE", "DIGEST")]
    rows += [
        (
            image.name,
            image.version,
            f"{image.size / MEGABYTE:.1f} MB",
            image.digest + (" (as before)" if image.digest in before else ""),
        )
        for image in images
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def stack_lines(images: Sequence[BuiltImage], place: str) -> str:
    """The lines of a stack file, under `spillway:platform`, that use the images."""
    named = {image.name: image.by_digest(place) for image in images}
    return (
        f"    gateway:\n      image: {named[image_name(GATEWAY)]}\n"
        f"    checkImage: {named[image_name(SERVING_CHECK)]}\n"
        f"    controllerImage: {named[image_name(BURST_CONTROLLER)]}"
    )


def sagemaker_lines(images: Sequence[BuiltImage], place: str) -> str:
    """The lines of a stack file of scenario `sagemaker`, and the image of `evaluate submit processing`."""
    named = {image.name: image.by_digest(place) for image in images}
    return (
        f"    gateway:\n      adapterImage: {named[image_name(SAGEMAKER_GATEWAY)]}\n"
        f"For evaluation as a processing job: --image {named[image_name(EVALUATION)]}"
    )


if __name__ == "__main__":
    sys.exit(main())
