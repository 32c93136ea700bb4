"""OCI runtime wrapper: runc, with the host's programs bound read-only into images that ask for them.

An image asks by carrying the marker file. Where no registry is reachable such an image holds only its
users, its environment and its data; the programs are the host's. Started by containerd's shim through a
small shell script, with the standard library alone: `host_program_runtime.py BINDINGS ARGUMENTS…`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

MARKER = ".spillway-host-programs"


def bundle_of(arguments: list[str]) -> Path | None:
    """Returns the bundle that a runc command line is about to create; None for any other command."""
    if "create" not in arguments:
        return None
    for index, argument in enumerate(arguments):
        if argument in ("--bundle", "-b") and index + 1 < len(arguments):
            return Path(arguments[index + 1])
        if argument.startswith("--bundle="):
            return Path(argument.partition("=")[2])
    return None


def bind_host_programs(bundle: Path, folders: list[str]) -> bool:
    """Adds the folders to the container's mounts if its image carries the marker.

    A destination that the pod mounts itself is left to the pod.

    Returns:
        Whether the container's configuration was changed.
    """
    config_file = bundle / "config.json"
    config: dict[str, Any] = json.loads(config_file.read_text())
    root = Path(bundle, config["root"]["path"])
    if not (root / MARKER).is_file():
        return False
    mounts: list[dict[str, Any]] = config.setdefault("mounts", [])
    taken = [mount["destination"] for mount in mounts]
    under: list[dict[str, Any]] = []
    over: list[dict[str, Any]] = []
    for folder in folders:
        if folder in taken or not Path(folder).exists():
            continue
        # A folder inside of what the pod mounts (a tools cache below /tmp, say) comes on top of it; any
        # other comes first, so that a volume inside of the folder comes on top of that.
        inside = any(Path(folder).is_relative_to(destination) for destination in taken)
        (over if inside else under).append(
            {
                "destination": folder,
                "type": "bind",
                # /bin and the like are links on merged systems; a bind mount needs what they point to.
                "source": str(Path(folder).resolve()),
                "options": ["rbind", "ro", "nosuid", "nodev"],
            }
        )
    config["mounts"] = [*under, *mounts, *over]
    temporary = bundle / ".config.json.new"
    temporary.write_text(json.dumps(config))
    temporary.replace(config_file)
    return True


def main(arguments: list[str]) -> None:
    """Edits the bundle where one is created, then becomes runc."""
    bindings = json.loads(Path(arguments[0]).read_text())
    if bundle := bundle_of(arguments[1:]):
        bind_host_programs(bundle, bindings["folders"])
    os.execv(bindings["runc"], [bindings["runc"], *arguments[1:]])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
