"""The shell in which tests call the real Pulumi CLI."""

import os
from pathlib import Path


def engine_environment(cli: Path, plugins: Path, folder: Path) -> dict[str, str]:
    """A whole environment for the CLI: nothing of the user's Pulumi, no network, state under `folder`."""
    state = folder / "state"
    state.mkdir(parents=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    return {
        **own,
        "PATH": os.pathsep.join([str(plugins), str(cli.parent), os.environ["PATH"]]),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "a passphrase for tests",
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
