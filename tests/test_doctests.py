"""Every example in a docstring runs, and so does the code of the documents."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import fastbp

DOCUMENTS = sorted((Path(__file__).resolve().parents[1] / "docs").glob("*.md"))
MODULES = ["fastbp"] + [found.name for found in pkgutil.walk_packages(fastbp.__path__, "fastbp.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_code_of(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = re.sub(r"^```.*$", "", path.read_text(), flags=re.M)  # the end of a block ends what is expected
    if importlib.util.find_spec("matplotlib") is None:
        text = re.sub(r"^>>> .*\.plot\(.*$", "", text, flags=re.M)
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    assert doctest.DocTestRunner().run(test).failed == 0
    assert len(test.examples) > 100 or path.name != "tutorial.md"


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(len(finder.find(importlib.import_module(name))) for name in MODULES)
    assert count >= len(MODULES)
