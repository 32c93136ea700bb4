"""The generated pages are what `make docs` writes, and say what the program and the policies do."""

import json
from pathlib import Path

import jsonschema
import pytest

from components.base import Component
from docs.generator import components, pages, policies
from docs.generator.pages import DOCS
from policies.gpu_cost.pools import MODEL_SERVICES
from tests.support.documents import fences
from tests.support.stack_files import ROOT, STACKS, golden_resources

PAGES = pages.pages()
COMPONENTS = components.all_components()
POLICIES = policies.all_policies()


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_is_what_make_docs_writes(name: str) -> None:
    path = DOCS / name
    assert path.is_file(), "run `make docs` and commit what it writes"
    assert path.read_text() == PAGES[name], "run `make docs` and commit what it writes"


@pytest.mark.parametrize("folder", pages.GENERATED_FOLDERS)
def test_no_page_is_left_of_what_is_gone(folder: str) -> None:
    there = {str(path.relative_to(DOCS)) for path in (DOCS / folder).iterdir()}
    assert there <= set(PAGES), "run `make docs` and commit what it removes"


def test_only_what_differs_is_written_and_a_page_without_a_subject_goes(tmp_path: Path) -> None:
    assert sorted(pages.write(tmp_path)) == sorted(tmp_path / name for name in PAGES)
    edited, gone = tmp_path / "configuration.md", tmp_path / "components/gone.md"
    edited.write_text("edited by hand")
    gone.write_text("a component that was removed")
    assert pages.write(tmp_path) == [edited, gone]
    assert edited.read_text() == PAGES["configuration.md"]
    assert not gone.exists()


def test_every_component_that_the_stacks_declare_has_a_page_with_its_type_token() -> None:
    tokens = {components.type_token(component) for component in COMPONENTS}
    declared = {resource["type"] for stack in STACKS for resource in golden_resources(stack)}
    assert {token for token in declared if token.startswith("spillway:")} <= tokens


def test_the_intents_that_the_gpu_policies_judge_are_components() -> None:
    """Policies may not import components, so the tokens stand in both."""
    assert {components.type_token(component) for component in COMPONENTS} >= MODEL_SERVICES


@pytest.mark.parametrize("stack", STACKS)
def test_what_a_component_declares_in_a_stack_is_on_its_page(stack: str) -> None:
    """The page is read from the source and the golden preview from a run: the two must not differ."""
    resources = golden_resources(stack)
    for component in COMPONENTS:
        token = components.type_token(component)
        names = {resource["name"] for resource in resources if resource["type"] == token}
        made = {
            resource["type"].rpartition(":")[2]
            for resource in resources
            # A component's own name may be that of one of its children, which has no children.
            if resource.get("parent") in names and not resource["type"].startswith("spillway:")
        }
        assert made <= {child.kind for child in components.children(component)}, token


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.__name__)
def test_a_component_page_explains_every_argument_and_shows_a_use(component: type[Component]) -> None:
    assert not [one.name for one in components.arguments(component) if not one.description]
    assert "```python" in components.page_text(component)
    assert components.children(component)


def test_the_gateways_page_has_its_token_arguments_children_and_outputs() -> None:
    text = PAGES["components/gateway.md"]
    for part in (
        "`spillway:kubernetes:Gateway`",
        "| `replicas` | `int` | **required** | Pods. |",
        "| `Deployment` | `apps/v1` | `{name}` |",
        "| `ConfigMap` | `v1` | `{name}-config` |",
        "| `endpoint` | `pulumi.Output[str]` |",
        "Registered outputs: `endpoint`",
    ):
        assert part in text


def test_what_only_some_settings_declare_is_on_the_page_too() -> None:
    assert "`PersistentVolumeClaim`" in PAGES["components/model-service.md"]


@pytest.mark.parametrize("served", POLICIES, ids=lambda served: served.rule.name)
def test_a_policy_page_shows_what_the_policy_says_and_its_configuration(served: policies.Served) -> None:
    said = policies.messages(served.rule)
    assert said, "the rule has nothing against its own example"
    text = PAGES[f"policies/{served.rule.name}.md"]
    assert all(message in text for message in said)
    assert all(f"| `{key}` |" in text for key in served.rule.config)
    assert f"| {served.rule.severity.value} |" in text
    assert all(control.number in text for control in served.rule.controls)


@pytest.mark.parametrize("served", POLICIES, ids=lambda served: served.rule.name)
def test_the_configuration_on_a_policy_page_is_one_that_the_policy_takes(served: policies.Served) -> None:
    if not served.rule.config:
        assert "## Configuration\n\nNone." in PAGES[f"policies/{served.rule.name}.md"]
        return
    (shown,) = fences(PAGES[f"policies/{served.rule.name}.md"], "json")
    configuration = json.loads(shown)[served.rule.name]
    assert set(configuration) == set(served.rule.config)
    for key, value in served.rule.config.items():
        jsonschema.validate(configuration[key], dict(value.schema))


def test_every_pack_has_its_policies_on_the_index() -> None:
    packs = {path.parent.name for path in (ROOT / "policies").glob("*/PulumiPolicy.yaml")}
    assert packs
    assert {served.pack for served in POLICIES} == packs
    index = PAGES["policies/README.md"]
    assert all(f"[{served.rule.name}]({served.rule.name}.md)" in index for served in POLICIES)
