"""The AWS double of a module of tests, empty again after each of them."""

from collections.abc import Generator

import pytest
from moto.core.base_backend import BackendDict  # pyright: ignore[reportMissingTypeStubs]

from tests.support.aws import RunningDouble, running_double


@pytest.fixture(name="module_double", scope="module")
def fixture_module_double(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningDouble]:
    # One for all: a client of each service for each test would take longer than the tests.
    with running_double(tmp_path_factory.mktemp("double")) as running:
        yield running


@pytest.fixture(name="double")
def fixture_double(module_double: RunningDouble) -> Generator[RunningDouble]:
    module_double.script()
    yield module_double
    module_double.script()
    BackendDict.reset()
