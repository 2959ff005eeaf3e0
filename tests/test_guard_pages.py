"""No call touches one byte outside the arrays it was given: they lie at pages that cannot be touched, see guard.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import DTYPES, ISAS

import fastbp

SCRIPT = Path(__file__).with_name("guard.py")
GATES = SCRIPT.with_name("guard_gates.py")
COLUMNS, ROWS = 100, 7
GATE_COLUMNS = 68  # two registers of float32, and more

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pages are protected with mprotect")


def run(*arguments: object, isa: str = "", script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(fastbp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "FASTBP_ISA": isa}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


kernels = pytest.mark.parametrize(
    "isa, dtype", [pytest.param(isa, dtype, id=f"{isa}-{dtype}") for isa in ISAS for dtype in DTYPES]
)


def check_sweep(isa: str, dtype: str, *more: str) -> None:
    done = run("sweep", dtype, COLUMNS, ROWS, *more, isa=isa)
    lines = done.stdout.splitlines() or ["nothing was tried"]
    assert done.returncode == 0, f"{lines[-1]}\n{done.stderr}"
    assert f"{COLUMNS} columns" in lines[-1]


@kernels
def test_nothing_outside_the_arrays_is_touched(isa: str, dtype: str) -> None:
    check_sweep(isa, dtype)


@kernels
def test_no_gate_touches_anything_outside_the_arrays(isa: str, dtype: str) -> None:
    done = run(dtype, GATE_COLUMNS, isa=isa, script=GATES)
    lines = done.stdout.splitlines() or ["nothing was tried"]
    assert done.returncode == 0, f"{lines[-1]}\n{done.stderr}"
    assert f"{GATE_COLUMNS} columns" in lines[-1]


@pytest.mark.full
@kernels
def test_nothing_outside_the_arrays_is_touched_with_any_rows(isa: str, dtype: str) -> None:
    check_sweep(isa, dtype, "all")


@pytest.mark.parametrize("where", ["end", "start"])
def test_a_touch_would_be_noticed(where: str) -> None:
    done = run("fault", where)
    assert done.stdout.split() == ["touching"]
    assert done.returncode != 0
