"""Rules of the house: who may include and import whom, what a kernel may not do, what the build exports."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastbp import _fastbp_core as core

ROOT = Path(__file__).resolve().parents[1]
CSRC, PACKAGE = ROOT / "csrc", ROOT / "src" / "fastbp"
KERNELS = CSRC / "kernels"
C_FILES = sorted([*CSRC.rglob("*.[ch]")])
STUBS = sorted(path for path in KERNELS.glob("*.c") if path.name != "table.c")
PARTS = {f"{name}.h" for name in ("activation", "binary", "dropout", "gemm", "loss", "narrow", "norm", "optimizer", "pack")}
PARTS |= {"cross_entropy.h", "loss_elements.h", "reduce.h", "tile.h", "turned.h"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def includes(path: Path) -> tuple[set[str], set[str]]:
    """("files of ours", as paths below csrc, and <system headers>)."""
    text = path.read_text()
    system = set(re.findall(r"^\s*#\s*include\s*<([^>]+)>", text, re.M))
    own = re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.M)
    return {(path.parent / name).resolve().relative_to(CSRC).as_posix() for name in own}, system


def code(path: Path) -> str:
    """A C file without its comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.S)


def test_there_is_something_to_check() -> None:
    assert len(C_FILES) > 20 and len(STUBS) >= 6 and {path.name for path in KERNELS.glob("*.h")} > PARTS


# Includes -------------------------------------------------------------------------------------------------------------


def may_include(path: Path) -> set[str]:
    """What a file of csrc may include of csrc."""
    base = {f"base/{header.name}" for header in (CSRC / "base").glob("*.h")}
    kernel = {f"kernels/{name}" for name in PARTS}
    vectors = {f"kernels/{name}" for name in ("vec.h", "vmath.h", "vslope.h", "vtrans.h", "columns.h")}
    table = {"kernels/kernels.h"}
    folder = path.parent.name
    if folder == "base":
        return base | {"fbp.h"}
    if folder == "plan":
        return base | table | {"fbp.h", "plan/plan.h", "plan/operands.h"}
    if path.name in ("window.c", "window.h"):
        return base | table | {"fbp.h", "window.h"}
    if path.name == "fbp.h":
        return set()
    assert folder == "kernels", f"{path}: a new folder needs a rule"
    if path in STUBS:
        return {"kernels/body.h"}
    return {
        "body.h": kernel | vectors | table,
        "vmath.h": {"kernels/vec.h"},
        "vslope.h": {"kernels/vec.h", "kernels/vmath.h"},
        "vtrans.h": {"kernels/vec.h"},
        "columns.h": {"kernels/vmath.h", "kernels/vtrans.h"},
        "vec.h": set(),
        "kernels.h": set(),
        "table.c": {"base/cpu.h", "fbp.h"} | table,
    }.get(path.name, kernel | vectors | table)


@pytest.mark.parametrize("path", C_FILES, ids=name_of)
def test_includes_run_one_way(path: Path) -> None:
    own, system = includes(path)
    assert own <= may_include(path)
    assert not [name for name in system if "Python" in name or "numpy" in name]
    if path.parent == KERNELS and path.name != "table.c":
        assert system <= {"stddef.h", "stdint.h", "string.h", "math.h", "immintrin.h", "arm_neon.h"}


def test_includes_have_no_circles() -> None:
    below = {path.relative_to(CSRC).as_posix(): includes(path)[0] for path in C_FILES}
    done: set[str] = set()
    while len(done) < len(below):
        ready = {name for name, needs in below.items() if name not in done and needs <= done}
        assert ready, f"a circle among {sorted(set(below) - done)}"
        done |= ready


def test_the_binding_sees_the_public_header_only() -> None:
    headers = {
        path.name: set(re.findall(r'cdef extern from "([^"]+)"', path.read_text())) - {"Python.h"}
        for path in PACKAGE.glob("*.p[yx][xi]")
    }
    assert {name: found for name, found in headers.items() if found} == {"_fbp.pxi": {"fbp.h"}, "_window.pxi": {"window.h"}}
    assert "Python.h" not in "".join(path.read_text() for path in C_FILES)


# Imports --------------------------------------------------------------------------------------------------------------


def imports(path: Path) -> set[str]:
    """Full names of the modules a file imports anywhere; `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def starts_with(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    found = imports(path)
    names_of_core = {name for name in found if starts_with(name, {"fastbp._fastbp_core"})}
    if path.name not in ("data.py", "graph.py", "layer_base.py", "layers.py", "model.py", "network.py", "runtime.py"):
        assert not names_of_core
    pure = {"checks.py": set(), "fixed.py": set(), "history.py": set(), "rng.py": set(), "sums.py": set()}
    pure["initializers.py"] = {"fastbp.rng", "fastbp.sums"}
    pure["settings.py"] = {"fastbp.checks", "fastbp.sums"}
    pure["values.py"] = pure["loss_settings.py"] = {"fastbp.checks"}
    pure["categories.py"] = {"fastbp.values"}
    shared = {"categories", "checks", "fixed", "history", "initializers", "loss_settings", "reference", "rng", "settings"}
    shared |= {"values"}
    shared = {f"fastbp.{name}" for name in shared}
    if path.parent.name == "reference" or path.name in pure:
        allowed = {"numpy", *sys.stdlib_module_names} | (
            pure.get(path.name, shared) if path.parent == PACKAGE else shared
        )
        assert not {name for name in found if not starts_with(name, allowed)}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_what_looks_into_networks_stands_above_them(path: Path) -> None:
    """inspect/ sees networks and graphs, not how they are trained; only models, and the package itself, see inspect/."""
    below = ("checks", "data", "extras", "graph", "heads", "layer_base", "losses", "network", "rng", "values", "inspect")
    if path.parent.name == "inspect":
        allowed = {"numpy", *sys.stdlib_module_names} | {f"fastbp.{name}" for name in below}
        assert not {name for name in imports(path) if not starts_with(name, allowed)}
    elif path != PACKAGE / "__init__.py" and path.name != "model.py":
        assert not {name for name in imports(path) if starts_with(name, {"fastbp.inspect"})}


@pytest.mark.parametrize("module", ["fastbp", "fastbp.reference"])
def test_import_brings_in_nothing_else(module: str) -> None:
    heavy = {"matplotlib", "sklearn", "tqdm", "threadpoolctl", "scipy", "pandas", "torch", "Cython", "pytest", "joblib"}
    script = f"import sys; sys.path[:] = {sys.path!r}; import {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & heavy


# Kernels --------------------------------------------------------------------------------------------------------------

CONDITIONS = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b.*$", re.M)


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.h")), ids=name_of)
def test_no_conditions_inside_of_kernels(path: Path) -> None:
    """Differences between ISAs live in vec.h, vtrans.h and the stubs, between dtypes in vmath.h and vslope.h."""
    if path.name in ("vec.h", "vtrans.h"):
        pytest.skip("the place of the differences")
    conditions = [match.group().strip() for match in CONDITIONS.finditer(code(path))]
    if path.name == "body.h":
        assert conditions == []
        return
    guard = f"#ifndef FBP_{path.stem.upper()}_H"
    if path.name not in ("vmath.h", "vslope.h"):
        assert conditions == [guard, "#endif"]
        return
    choices = {"vmath.h": 2, "vslope.h": 1}[path.name]  # constants first; softplus, a table in float32
    assert conditions == [guard, *["#if FBP_REAL == 32", "#else", "#endif"] * choices, "#endif"]
    constants = code(path).split("#if FBP_REAL == 32")[1].split("#endif")[0]
    for word in ("INLINE", "return", "(vec"):
        assert word not in constants


@pytest.mark.parametrize("path", STUBS, ids=name_of)
def test_a_stub_only_chooses(path: Path) -> None:
    text = code(path)
    assert text.count("#include") == 1 and "{" not in text.replace("TILE_ROWS", "")
    assert re.search(r"#define KERNELS_TABLE fbp_kernels_(\w+)", text).group(1) == path.stem  # type: ignore[union-attr]
    assert len(text.splitlines()) <= 24


@pytest.mark.parametrize("path", C_FILES, ids=name_of)
def test_nothing_prints_aborts_or_exits(path: Path) -> None:
    forbidden = [
        "printf",
        "fprintf",
        "puts",
        "fputs",
        "perror",
        "abort",
        "exit",
        "_exit",
        "assert",
        "raise",
        "signal",
        "rand",
    ]
    if path.parent == KERNELS:
        forbidden += ["malloc", "calloc", "realloc", "free", "posix_memalign", "mmap", "alloca"]
    if path.parent == KERNELS and path.name != "table.c":
        forbidden += ["getenv", "fopen"]
    assert not [name for name in forbidden if re.search(rf"(?<![\w.>]){name}\s*\(", code(path))]
    if path.parent == KERNELS:
        assert not re.search(r"pthread|atomic|errno", code(path))


def test_flags_that_change_bits() -> None:
    files = [ROOT / "setup.py", ROOT / "pyproject.toml", ROOT / "Makefile", *(ROOT / ".ci").glob("*"), *C_FILES]
    for path in files:
        if path.is_file():
            assert not re.search(
                r"-ffast-math|-Ofast|-march=native|-mtune=native|unsafe-math|fp-model", path.read_text()
            ), path
            assert not re.search(
                r"fp-contract=(?!off)|pragma\s+GCC\s+optimize(?!\(\"(O2|schedule-insns\", \"sched-pressure)\"\))"
                r"|pragma\s+STDC\s+FP_CONTRACT\s+ON",
                path.read_text(),
            )
    assert '"-ffp-contract=off"' in (ROOT / "setup.py").read_text()


# What is built --------------------------------------------------------------------------------------------------------


def symbols(path: Path, *options: str) -> set[str]:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    done = subprocess.run(
        [nm, "--defined-only", *options, path], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"nm cannot read {path.name}")
    return {line.split()[-1] for line in done.stdout.splitlines() if line.split()[-2:-1] != ["w"]}


def test_the_module_exports_its_init_function_only() -> None:
    assert symbols(Path(core.__file__), "-D") - {"_init", "_fini", "_edata", "_end", "__bss_start"} == {
        "PyInit__fastbp_core"
    }


@pytest.mark.parametrize("stub", STUBS, ids=name_of)
def test_a_file_compiled_for_one_isa_exports_its_table_only(stub: Path) -> None:
    objects = sorted((ROOT / "build").glob(f"temp.*/csrc/kernels/{stub.stem}.o"))
    if not objects:
        pytest.skip("no objects in build/")
    built = stub.stem.split("_")[0] in core.isa_names()
    for path in objects:
        found = {name for name in symbols(path, "-g") if not name.startswith(("__asan", "__odr_asan"))}
        assert found <= {f"fbp_kernels_{stub.stem}"}
        assert found or not built
