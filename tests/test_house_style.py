"""More rules of the house: no literal tolerance, a NumPy twin for every row, files one can read, names that are documented."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastbp
from fastbp import _fastbp_core as core
from fastbp import graph, initializers, losses, optimizers, reference, rng, runtime
from fastbp.reference import activations as reference_activations
from fastbp.reference import losses as reference_losses
from fastbp.reference import optimizers as reference_optimizers

ROOT = Path(__file__).resolve().parents[1]
CSRC, PACKAGE, TESTS = ROOT / "csrc", ROOT / "src" / "fastbp", ROOT / "tests"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Tests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize("program", sorted(TESTS.glob("*.c")), ids=lambda path: path.name)
def test_programs_of_make_targets_compile(program: Path) -> None:
    """They run for minutes, so not here."""
    flags = ["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", "-I", str(CSRC)]
    done = subprocess.run(["cc", *flags, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


TOLERANT = {"assert_allclose": "rtol", "allclose": "rtol", "isclose": "rtol"}
FORBIDDEN = {"assert_almost_equal", "assert_array_almost_equal", "assertAlmostEqual", "assert_approx_equal"}


def tolerances(tree: ast.AST) -> Iterator[str]:
    """Tolerances that are literals, or those by default."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in FORBIDDEN:
            yield f"line {node.lineno}: {name}"
        if (
            name in TOLERANT
            and None not in given
            and not {"rtol", "atol", "rel", "abs", "rel_tol", "abs_tol"} & set(given)
        ):
            yield f"line {node.lineno}: {name} without {TOLERANT[name]}"
        for argument in ("rtol", "atol", "rel", "abs", "rel_tol", "abs_tol"):
            value = given.get(argument)
            if value is None or any(isinstance(part, (ast.Name, ast.Attribute, ast.Call)) for part in ast.walk(value)):
                continue
            if ast.literal_eval(value) != 0 if isinstance(value, ast.Constant) else True:
                yield f"line {node.lineno}: {argument}={ast.unparse(value)}"


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.py")), ids=name_of)
def test_no_literal_tolerance(path: Path) -> None:
    assert not list(tolerances(ast.parse(path.read_text())))


def test_a_literal_tolerance_is_found() -> None:
    for call in ("assert_allclose(a, b, rtol=1e-5)", "np.allclose(a, b)", "a == pytest.approx(b, abs=2 * 1e-3)"):
        assert len(list(tolerances(ast.parse(call)))) == 1
    for call in (
        "assert_allclose(a, b, rtol=8 * EPS, atol=0)",
        "np.isclose(a, b, rtol=np.finfo(d).eps)",
        "f(**settings)",
    ):
        assert not list(tolerances(ast.parse(call)))


# Tables ---------------------------------------------------------------------------------------------------------------


def test_every_row_has_a_numpy_twin() -> None:
    assert set(core.ACTIVATIONS) == set(reference_activations.ACTIVATIONS)
    assert set(core.LOSSES) == set(reference_losses.LOSSES)
    assert {name for name in core.LOSSES if not callable(getattr(losses, name, None))} == set()


def test_every_optimizer_has_a_numpy_twin() -> None:
    rows = set()
    for name, cls in inspect.getmembers(optimizers, inspect.isclass):
        if cls.__module__ != "fastbp.optimizers" or cls is optimizers.Optimizer:
            continue
        twin = getattr(reference_optimizers, name)
        assert getattr(fastbp, name) is cls and getattr(reference, name) is twin
        assert inspect.signature(cls) == inspect.signature(twin)
        rows.add(cls().row)
        if cls is fastbp.SGD:
            rows |= {cls(momentum=0.5).row, cls(momentum=0.5, nesterov=True).row}
    assert rows == set(core.OPTIMIZERS)


def test_gates_are_those_of_the_header() -> None:
    gates = re.search(r"enum fbp_gate \{([^}]*)\}", (CSRC / "fbp.h").read_text())
    assert gates is not None
    names = [name.strip().removeprefix("FBP_GATE_").lower() for name in gates.group(1).split(",")]
    assert names == [*graph.GATES, "count"]


# Readable -------------------------------------------------------------------------------------------------------------

SOURCES = [
    path for path in (*sorted(CSRC.rglob("*.[ch]")), *sorted(PACKAGE.rglob("*.p[yx]*"))) if path.suffix != ".pyc"
]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= (600 if path.name == "_fastbp_core.pyx" else 400)


def stub_names() -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in ast.parse((PACKAGE / "_fastbp_core.pyi").read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def public(thing: object) -> set[str]:
    names = {name for name in vars(thing) if not name.startswith("_")}
    return {name for name in names if not isinstance(getattr(thing, name), ModuleType)}


def test_the_stub_names_what_is_public() -> None:
    assert (PACKAGE / "py.typed").is_file() and (PACKAGE / "_fastbp_core.pyi").is_file()
    stub = stub_names()
    assert public(core) == set(stub)
    plan = stub["Plan"]
    assert isinstance(plan, ast.ClassDef)
    assert public(core.Plan) == {node.name for node in plan.body if isinstance(node, ast.FunctionDef)} - {"__init__"}


PUBLIC = {f"fastbp.{name}": getattr(fastbp, name) for name in fastbp.__all__}
for _module in (initializers, losses, reference.losses, rng, runtime):
    PUBLIC |= {
        f"{_module.__name__}.{name}": thing
        for name, thing in inspect.getmembers(_module, inspect.isfunction)
        if thing.__module__ == _module.__name__ and not name.startswith("_")
    }
PUBLIC |= {f"fastbp.reference.{name}": getattr(reference, name) for name in reference.__all__}
# A sentence says it all: what they return depends on the machine, or the module's table is the example.
WITHOUT_EXAMPLE = re.compile(
    r"num_threads|show_config|runtime\.|initializers\.(?!initialize)|reference\.isa|_seed$|_named$"
)


@pytest.mark.parametrize("name", sorted(name for name, thing in PUBLIC.items() if callable(thing)))
def test_docstrings(name: str) -> None:
    text = inspect.getdoc(PUBLIC[name])
    assert text and text.splitlines()[0].endswith((".", "]_."))
    if not WITHOUT_EXAMPLE.search(name):
        assert "Examples\n--------" in text and ">>> " in text
