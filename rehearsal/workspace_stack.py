"""A stack as its teardown drives it, in a workspace of `make`: with its stack file and what mends a kill."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rehearsal.aws.clients import DoubleError
from rehearsal.site import SiteError
from rehearsal.state_files import StateFileError
from rehearsal.workspace import WorkspaceError
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli
from runtime.ops.teardown.stack import PulumiStack
from runtime.ops.teardown.waiting import StepError


class WorkspaceStack(PulumiStack):
    """A stack of a workspace.

    Args:
        cli: Drives it.
        name: As the CLI takes it.
        progress: Where updates are shown.
        settled: Finds out what became of what a killed Pulumi was making.
        destroyed: Destroys it once.
        unstaged: Removes the staged copies.
    """

    def __init__(
        self,
        cli: PulumiCli,
        name: str,
        progress: Progress,
        *,
        settled: Callable[[], None],
        destroyed: Callable[[], None],
        unstaged: Callable[[], None],
    ) -> None:
        super().__init__(cli, name, progress)
        self._settled = settled
        self._destroyed = destroyed
        self._unstaged = unstaged

    def settle(self) -> None:
        """See Stack."""
        with _as_a_step():
            self._settled()

    def unstage(self) -> None:
        """See Stack."""
        with _as_a_step():
            self._unstaged()

    def destroy(self) -> None:
        """See Stack."""
        with _as_a_step():
            self._destroyed()


@contextmanager
def _as_a_step() -> Generator[None]:
    """A site that ends in the middle is what a step could not do, and no reason to write no certificate."""
    try:
        yield
    except (SiteError, WorkspaceError, StateFileError, DoubleError) as error:
        raise StepError([str(error)]) from error
