"""The finished tools as the rest of rehearsal sees them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rehearsal.tools.cache import Cache, Receipt, Source
from rehearsal.tools.catalogue import PACKAGES, Group, SystemPackage, Tool, tools_of
from rehearsal.tools.errors import ToolError
from rehearsal.tools.packages import is_present, package_folder, system_program


class Toolbox:
    """Where every program of some groups of tools is."""

    def __init__(
        self,
        cache: Cache,
        receipts: Mapping[str, Receipt],
        tools: Sequence[Tool],
        packages: Sequence[SystemPackage] = (),
    ) -> None:
        """Puts finished tools together; `make` and `load` are the ways to get one."""
        self._cache = cache
        self._tools = {tool.name: tool for tool in tools}
        self._receipts = dict(receipts)
        self._packages = {package.name: package for package in packages}
        self._owners = {program: tool for tool in tools for program in tool.programs}

    @classmethod
    def load(cls, groups: Iterable[str]) -> "Toolbox":
        """The toolbox of groups whose tools are all there already; makes nothing.

        Raises:
            ToolError: Some are missing; the message has the command that makes them.
        """
        groups = tuple(groups)
        cache = Cache.locate()
        tools = tools_of(groups)
        packages = PACKAGES if Group.SITE in groups else ()
        found = {tool.name: cache.receipt(tool) for tool in tools}
        receipts = {name: receipt for name, receipt in found.items() if receipt}
        missing = [tool.title for tool in tools if tool.name not in receipts]
        missing += [f"Debian's {package.name}" for package in packages if not is_present(package)]
        if missing:
            raise ToolError(f"tools are missing: {', '.join(missing)}; get them with: make tools")
        return cls(cache, receipts, tools, packages)

    def path(self, name: str) -> Path:
        """The program of that name.

        Raises:
            ToolError: None of the groups has it, or nothing brought it and `rehearsal.plugins` stands in.
        """
        if tool := self._owners.get(name):
            if self.source(name) is Source.STAND_IN:
                raise ToolError(f"{name} could not be had here; rehearsal.plugins has a stand-in for it")
            return self._cache.folder(tool) / name
        if any(name in package.programs for package in self._packages.values()):
            found = system_program(name)
            if found:
                return found
        raise ToolError(f"no program {name} in the tools {', '.join(self._tools) or 'of no group'}")

    def folder(self, name: str) -> Path:
        """The folder of a tool, or of a Debian package that keeps its programs off PATH.

        Raises:
            ToolError: None of the groups has it.
        """
        if name in self._tools:
            return self._cache.folder(self._tools[name])
        package = self._packages.get(name)
        found = package_folder(package) if package else None
        if not found:
            raise ToolError(f"no folder {name} in the tools {', '.join(self._tools) or 'of no group'}")
        return found

    @property
    def python(self) -> Path:
        """The Python of the serving environment.

        Raises:
            ToolError: The group `serving` was not asked for.
        """
        return self.folder("serving") / "bin" / "python"

    def source(self, name: str) -> Source:
        """Where a tool or a single program came from.

        Raises:
            ToolError: None of the groups has it.
        """
        if name in self._packages or any(name in package.programs for package in self._packages.values()):
            return Source.PACKAGE
        tool = self._owners.get(name) or self._tools.get(name)
        if not tool:
            raise ToolError(f"no tool {name} among {', '.join(self._tools) or 'no tools'}")
        receipt = self._receipts[tool.name]
        stands_in = name in tool.stand_ins and name not in receipt.files
        return Source.STAND_IN if stands_in else receipt.source
