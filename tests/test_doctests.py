"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fastbp

MODULES = ["fastbp"] + [found.name for found in pkgutil.walk_packages(fastbp.__path__, "fastbp.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(len(finder.find(importlib.import_module(name))) for name in MODULES)
    assert count >= len(MODULES)
