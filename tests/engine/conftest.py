"""The real Pulumi CLI for tests: a file backend, no network, and this repository's own plugins."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.aws.account import AwsDouble
from rehearsal.plugins import EXEC_SCRIPT, MODULES
from rehearsal.plugins.launchers import write_launchers
from rehearsal.tools import Toolbox
from tests.support.engine import engine_environment


@pytest.fixture(scope="session")
def pulumi_cli() -> Path:
    """The Pulumi CLI that was built or downloaded."""
    return Toolbox.load(["pulumi"]).path("pulumi")


@pytest.fixture(scope="session")
def plugin_folder(pulumi_cli: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with launchers of all our plugins. Its name has a blank, as a user's may."""
    folder = tmp_path_factory.mktemp("our plugins")
    write_launchers(folder, Path(sys.executable), pulumi_cli.with_name(EXEC_SCRIPT), MODULES)
    return folder


@pytest.fixture
def pulumi_env(pulumi_cli: Path, plugin_folder: Path, tmp_path: Path) -> dict[str, str]:
    """A whole environment for the CLI: nothing of the user's Pulumi, state under `tmp_path`."""
    return engine_environment(pulumi_cli, plugin_folder, tmp_path)


@pytest.fixture
def double(tmp_path: Path) -> Generator[AwsDouble]:
    """An AWS double of the test's own."""
    running = AwsDouble(tmp_path / "spillway")
    running.start()
    yield running
    running.stop()
