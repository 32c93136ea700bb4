"""A stack of `make` in a teardown: what its site does wrong is the trouble of a step."""

import io
import os
from pathlib import Path
from typing import NoReturn

import pytest

from rehearsal.aws.clients import DoubleError
from rehearsal.site import SiteError
from rehearsal.workspace import WorkspaceError
from rehearsal.workspace_stack import WorkspaceStack
from runtime.ops.progress import Progress
from runtime.ops.pulumi_cli import PulumiCli
from runtime.ops.teardown.waiting import StepError


@pytest.mark.parametrize("error", [SiteError, WorkspaceError, DoubleError])
@pytest.mark.parametrize("method", ["settle", "unstage", "destroy"])
def test_a_site_or_a_double_that_ends_in_the_middle_is_a_steps_trouble(
    error: type[Exception], method: str, tmp_path: Path
) -> None:
    def ends() -> NoReturn:
        raise error("site s does not answer; run the command again")

    cli = PulumiCli(tmp_path, "dev", os.environ)
    stack = WorkspaceStack(cli, "dev", Progress(io.StringIO()), settled=ends, destroyed=ends, unstaged=ends)
    with pytest.raises(StepError) as trouble:
        getattr(stack, method)()
    assert trouble.value.lines == ("site s does not answer; run the command again",)
