"""What the site needs to know about the tools; `rehearsal.tools` provides it."""

from pathlib import Path
from typing import Protocol


class SiteTools(Protocol):
    """The tools of a site, built or downloaded before it starts."""

    @property
    def python(self) -> Path:
        """The interpreter in the serving environment (Ray and vLLM)."""
        ...

    def path(self, name: str) -> Path:
        """The program `name`."""
        ...

    def folder(self, name: str) -> Path:
        """The folder of the files that come with the tool `name`."""
        ...


def host_program_folders(tools: SiteTools) -> list[Path]:
    """Folders that containers with the host's programs have at the same path as the host."""
    environment = tools.python.parent.parent
    # A venv's interpreter is a link into the Python installation that it was made from.
    return [environment, tools.python.resolve().parent.parent]
