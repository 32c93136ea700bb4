"""A stack as its teardown drives it: by the Pulumi CLI, with the weights that staging brought."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli
from runtime.ops.stage import unstage
from runtime.ops.staged_weights import StagedWeights
from runtime.ops.teardown.account import boto3_clients
from runtime.ops.teardown.buckets import staging_of
from runtime.ops.teardown.ledger import read_ledger, resources_of


class PulumiStack:
    """A stack of a project.

    Args:
        cli: Drives it.
        name: As the CLI takes it.
        progress: Where updates are shown.
        config_file: Stack file that the CLI may write a salt to; None lets it take its own.
    """

    def __init__(
        self, cli: PulumiCli, name: str, progress: Progress, config_file: Path | None = None
    ) -> None:
        self._cli = cli
        self._name = name
        self._progress = progress
        self._options = [] if config_file is None else ["--config-file", str(config_file)]
        self._config_file = config_file

    @property
    def name(self) -> str:
        """As the CLI takes it."""
        return self._name

    def state(self) -> Mapping[str, Any]:
        """The exported state; without resources where there is no stack."""
        return self._cli.state()

    def settle(self) -> None:
        """Finds out what became of what a killed Pulumi was making."""
        self._cli.settle_creations(self._progress, self._config_file)

    def unstage(self) -> None:
        """Removes the weights that `stage` brought, as the stack's output says."""
        resources = resources_of(self._cli.state())
        ledger = read_ledger(self._name, resources)
        plan = staging_of(resources)
        if plan is None or not ledger.clouds:
            return
        s3 = boto3_clients(ledger.clouds[0])("s3")
        unstage(plan, lambda prefix: StagedWeights(s3, plan.bucket, prefix), self._progress)

    def destroy(self) -> None:
        """Runs `pulumi destroy --refresh` once; nothing where the state is empty."""
        if resources_of(self._cli.state()):
            self._cli.update("destroy", self._progress, "--refresh", *self._options)
