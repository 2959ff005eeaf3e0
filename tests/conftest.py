"""`pytest --full` runs every size where the tests otherwise take a sample that straddles every boundary."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from cases import LIBRARIES

import fastbp as fb


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="every size instead of a sample (minutes)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: only with --full: every size instead of a sample")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if "full" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="every size: run with --full"))


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> ModuleType:
    return LIBRARIES[request.param]


@pytest.fixture
def keep_threads() -> Iterator[None]:
    before = fb.get_num_threads()
    yield
    fb.set_num_threads(before)


@pytest.fixture
def two_threads(keep_threads: None) -> None:
    fb.set_num_threads(2)
