"""One page per component: its arguments, what it declares, what it gives, and where the program uses it.

Read from the source rather than from a run, so that what only some settings declare is there too.
`tests/contracts` compares it with the golden previews.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeGuard, get_type_hints

import pulumi
import pulumi_kubernetes as kubernetes

import components
import stacks
from components.base import Component
from docs.generator import markdown

FOLDER = "components"

_ROOT = Path(__file__).parents[2]
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Child:
    """One resource that a component declares.

    Attributes:
        kind: Its kind, such as `Deployment`; for a component its class.
        api: Where the kind is from: a Kubernetes API version such as `apps/v1`, or a provider's name.
        name: Its Pulumi name as the source writes it, such as `{name}-config`.
    """

    kind: str
    api: str
    name: str


@dataclass(frozen=True)
class Argument:
    """One field of a component's Args class; an empty default means that it must be given."""

    name: str
    type: str
    default: str
    description: str


def all_components() -> list[type[Component]]:
    """Every component class of the package `components` that no other extends, by name."""
    found: set[type[Component]] = set()
    for module in pkgutil.walk_packages(components.__path__, "components."):
        for value in vars(importlib.import_module(module.name)).values():
            if _is_component(value) and value.__module__ == module.name:
                found.add(value)
    extended = {base for component in found for base in component.__mro__[1:]}
    return sorted(found - extended, key=lambda component: component.__name__)


def files() -> dict[str, str]:
    """Every page and the index, by path below `docs/`."""
    texts = {page_name(component): page_text(component) for component in all_components()}
    return {f"{FOLDER}/README.md": _index(), **texts}


def page_name(component: type[Component]) -> str:
    """The path of a component's page below `docs/`."""
    return f"{FOLDER}/{re.sub(r'(?<=[a-z])(?=[A-Z])', '-', component.__name__).lower()}.md"


def page_text(component: type[Component]) -> str:
    """The page of one component."""
    source = _source_file(component)
    return markdown.page(
        f"# {component.__name__}",
        f"Written by `make docs` from [{source}](../../{source}): edit that, not this page.",
        inspect.getdoc(component) or "",
        f"Type token: `{type_token(component)}`",
        *_arguments(component),
        "## What it declares",
        "All that the code can declare; some of it only with certain arguments.",
        markdown.table(
            ("kind", "API", "Pulumi name"),
            (
                (f"`{child.kind}`", f"`{child.api}`", markdown.code(child.name))
                for child in children(component)
            ),
        ),
        "## What it gives",
        _attributes(component),
        _registered(component),
        "## How the program declares it",
        *_examples(component),
    )


def type_token(component: type[Component]) -> str:
    """The Pulumi type of a component, such as `spillway:kubernetes:Gateway`."""
    kind = _template(_base_call(component).args[0])
    for base in _lineage(component)[1:]:
        # A class between it and Component builds the token from what it is given as the first argument.
        parameter = list(inspect.signature(base.__init__).parameters)[1]
        kind = _template(_base_call(base).args[0]).replace(f"{{{parameter}}}", kind)
    if "{" in kind:
        raise TypeError(f"{component.__name__} gives its base a computed type token; write it out")
    return f"spillway:{kind}"


def arguments(component: type[Component]) -> list[Argument]:
    """The fields of a component's Args class, with what its docstring says of each; none without one."""
    args = _args_class(component)
    if args is None:
        return []
    described: dict[str, str] = {}
    for base in reversed(args.__mro__):
        described |= dict(_ATTRIBUTE.findall(_section(base, "Attributes")))
    return [
        Argument(
            field.name,
            _annotations(args)[field.name],
            _default(field),
            " ".join(described.get(field.name, "").split()),
        )
        for field in dataclasses.fields(args)
    ]


def children(component: type[Component]) -> list[Child]:
    """What a component declares: every resource that its code makes, once for each place that makes it."""
    found: dict[Child, None] = {}
    for base in _lineage(component):
        found |= dict.fromkeys(_made_by(base, set()))
    return sorted(found, key=lambda child: (child.api, child.kind, child.name))


def _index() -> str:
    rows: list[tuple[str, str, str]] = []
    for component in all_components():
        link = f"[{component.__name__}]({Path(page_name(component)).name})"
        kinds = ", ".join(f"`{kind}`" for kind in sorted({child.kind for child in children(component)}))
        rows.append((link, _first_sentence(component), kinds))
    return markdown.page(
        "# Components",
        "Written by `make docs`: one page per Pulumi component of [components/](../../components).\n"
        "[concepts.md](../concepts.md) says in which order `up` makes them and why.",
        markdown.table(("component", "what it is", "what it declares"), rows),
    )


def _arguments(component: type[Component]) -> Iterator[str]:
    args = _args_class(component)
    if args is None:
        yield "## Arguments\n\nNone but the name and Pulumi's options."
        return
    yield f"## Arguments: `{args.__name__}`"
    yield markdown.table(
        ("argument", "type", "default", "what it is"),
        (
            (f"`{one.name}`", f"`{one.type}`", one.default or "**required**", one.description)
            for one in arguments(component)
        ),
    )


def _attributes(component: type[Component]) -> str:
    rows = [
        (f"`{name}`", f"`{text}`")
        for name, text in _annotations(component).items()
        if not name.startswith("_")
    ]
    return markdown.table(("attribute", "type"), rows) if rows else "No attributes."


def _registered(component: type[Component]) -> str:
    declared, outputs = _declared_keys(component), _finished_keys(component)
    return (
        f"Registered outputs: {', '.join(map(markdown.code, outputs)) or 'none'}. What policies see of it, "
        f"as inputs and outputs: {', '.join(map(markdown.code, declared)) or 'nothing'}."
    )


def _examples(component: type[Component]) -> Iterator[str]:
    for module in pkgutil.iter_modules(stacks.__path__, "stacks."):
        if module.name == "stacks.__main__":
            continue  # importing it runs the program
        names = vars(importlib.import_module(module.name))
        text, calls = _source(module.name)
        for call in calls:
            if _resolve(call.func, names) is component:
                yield f"In `{module.name.replace('.', '/')}.py`:"
                yield markdown.fence("python", _segment(text, call))


def _made_by(subject: type[Any] | FunctionType, seen: set[object]) -> Iterator[Child]:
    """The resources that a class or a function makes, also through functions of `components`."""
    if subject in seen:
        return
    seen.add(subject)
    names = vars(sys.modules[subject.__module__])
    for call in _calls(_tree(subject)):
        made = _resolve(call.func, names)
        if isinstance(made, type) and issubclass(made, pulumi.Resource):
            yield _child(made, call, names)
        elif isinstance(made, FunctionType) and made.__module__.startswith("components."):
            yield from _made_by(made, seen)


def _child(made: type[pulumi.Resource], call: ast.Call, names: dict[str, Any]) -> Child:
    name = _template(call.args[0]) if call.args else ""
    if _is_component(made):
        return Child(made.__name__, "spillway", name)
    given = {keyword.arg: _resolve(keyword.value, names) for keyword in call.keywords}
    if issubclass(made, kubernetes.apiextensions.CustomResource):
        return Child(str(given["kind"]), str(given["api_version"]), name)
    token = str(getattr(made, "pulumi_type", made.__name__))
    provider, _, rest = token.partition(":")
    group = rest.rpartition(":")[0].removeprefix("core/")
    return Child(made.__name__, group if provider == "kubernetes" else provider, name)


def _template(expression: ast.expr) -> str:
    """A name as the source writes it: fixed text, and what is filled in between braces."""
    if isinstance(expression, ast.Constant):
        return str(expression.value)
    if isinstance(expression, ast.JoinedStr):
        return "".join(
            _template(part.value if isinstance(part, ast.FormattedValue) else part)
            for part in expression.values
        )
    return f"{{{re.sub(r'^(self[._]+)?(args[.])?', '', ast.unparse(expression))}}}"


def _declared_keys(component: type[Component]) -> list[str]:
    component = _lineage(component)[-1]
    declared = _base_call(component).args[2]
    if isinstance(declared, ast.Name):
        assigned = (node for node in ast.walk(_tree(component)) if isinstance(node, ast.Assign))
        name = declared.id
        declared = next(node.value for node in assigned if ast.unparse(node.targets[0]) == name)
    if isinstance(declared, ast.Call):
        # The keys come from a function, which several components may share.
        function = _resolve(declared.func, vars(sys.modules[component.__module__]))
        if isinstance(function, FunctionType):
            returned = (node.value for node in ast.walk(_tree(function)) if isinstance(node, ast.Return))
            declared = next((value for value in returned if isinstance(value, ast.Dict)), declared)
    keys = declared.keys if isinstance(declared, ast.Dict) else []
    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]


def _finished_keys(component: type[Component]) -> list[str]:
    calls = (call for base in _lineage(component) for call in _calls(_tree(base)))
    finishing = [call for call in calls if ast.unparse(call.func) == "self.finish"]
    return sorted({keyword.arg for call in finishing for keyword in call.keywords if keyword.arg})


def _base_call(component: type[Component]) -> ast.Call:
    calls = (call for call in _calls(_tree(component)) if ast.unparse(call.func) == "super().__init__")
    return next(calls)


def _lineage(component: type[Component]) -> list[type[Component]]:
    """A component and the components that it extends, itself first; Component is not among them."""
    return [base for base in component.__mro__ if _is_component(base)]


def _args_class(component: type[Component]) -> type[Any] | None:
    return get_type_hints(component.__init__).get("args")


def _annotations(owner: type[Any]) -> dict[str, str]:
    """The annotated names of a class body, and of the classes it extends, as they are written."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.split(".")[0] not in {"components", "runtime"} or base is Component:
            continue
        (body,) = (node.body for node in _tree(base).body if isinstance(node, ast.ClassDef))
        for node in body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = ast.unparse(node.annotation)
    return found


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    return "" if field.default is dataclasses.MISSING else f"`{field.default!r}`"


def _section(owner: type[Any], title: str) -> str:
    """The body of one section of a docstring in Google's form, indented as it is there."""
    found = re.search(rf"^{title}:\n((?: {{4}}.*\n?|\n)*)", inspect.getdoc(owner) or "", re.MULTILINE)
    return found[1] if found else ""


def _first_sentence(owner: type[Any]) -> str:
    return (inspect.getdoc(owner) or "").partition("\n\n")[0]


def _source_file(component: type[Component]) -> str:
    return str(Path(inspect.getfile(component)).relative_to(_ROOT))


def _segment(text: str, call: ast.Call) -> str:
    """The source of a call, its first line moved to the margin and the others with it."""
    segment = ast.get_source_segment(text, call) or ""
    margin = len(text.splitlines()[call.lineno - 1]) - len(text.splitlines()[call.lineno - 1].lstrip())
    return textwrap.dedent(" " * margin + segment)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@cache
def _source(module: str) -> tuple[str, tuple[ast.Call, ...]]:
    """The text of a module and the calls in it."""
    text = inspect.getsource(sys.modules[module])
    return text, tuple(_calls(ast.parse(text)))


@cache
def _tree(subject: type[Any] | FunctionType) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(subject)))


def _resolve(expression: ast.expr, names: dict[str, Any]) -> object:
    """What a constant or a dotted name of a module stands for; None for anything else."""
    if isinstance(expression, ast.Constant):
        return expression.value
    if isinstance(expression, ast.Name):
        return names.get(expression.id)
    if isinstance(expression, ast.Attribute):
        return getattr(_resolve(expression.value, names), expression.attr, None)
    return None


def _is_component(value: object) -> TypeGuard[type[Component]]:
    return isinstance(value, type) and issubclass(value, Component) and value is not Component
