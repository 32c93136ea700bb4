"""Finds, downloads or builds every pinned tool once, into a per-user cache."""

from rehearsal.tools.cache import Source
from rehearsal.tools.catalogue import Group
from rehearsal.tools.errors import ToolError
from rehearsal.tools.making import ensure
from rehearsal.tools.toolbox import Toolbox

__all__ = ["Group", "Source", "ToolError", "Toolbox", "ensure"]
