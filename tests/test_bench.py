"""The benchmark runs, counts right, and leaves things as they were. How fast it all is, no test says."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import fastbp
from fastbp import __main__ as program
from fastbp import bench, reference, runtime
from fastbp.workloads import WORKLOADS, Workload, named, problem

SMALL = [workload for workload in WORKLOADS if workload.operations < 10**9]


def ids(workload: Workload) -> str:
    return workload.name


@pytest.mark.parametrize("workload", WORKLOADS, ids=ids)
def test_operations_are_those_of_the_products(workload: Workload) -> None:
    forward = [2 * workload.batch * inputs * units for inputs, units in pairwise(workload.layers)]
    assert workload.operations == 3 * sum(forward) - forward[0]  # the first layer has no input gradient


@pytest.mark.parametrize("workload", SMALL, ids=ids)
def test_plan_counts_the_same(workload: Workload) -> None:
    net = problem(workload, fastbp).net
    assert isinstance(net, fastbp.Sequential)
    assert net.plan.operations(workload.batch) == workload.operations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_libraries_get_the_same_problem(dtype: str) -> None:
    own, other = (problem(WORKLOADS[0], library, dtype=dtype, seed=5) for library in (fastbp, reference))
    assert isinstance(own.net, fastbp.Sequential)
    assert isinstance(other.net, reference.Sequential)
    assert own.x.dtype == other.x.dtype == own.net.dtype == other.net.dtype == dtype
    assert (own.net.params == other.net.params).all()
    assert (own.x == other.x).all()
    assert (own.y == other.y).all()


def test_named() -> None:
    assert named([workload.name for workload in WORKLOADS]) == WORKLOADS
    with pytest.raises(ValueError, match=r"workload must be one of rl64, digits, .*, wide4k, or layers .*, got 'huge'"):
        named(["rl64", "huge"])


def test_named_by_layers_and_batch() -> None:
    (rl64, work) = named(["rl64", "30-50-2:200"])
    assert rl64 == WORKLOADS[0]
    assert work == Workload("30-50-2:200", (30, 50, 2), 200)
    assert problem(work, fastbp).x.shape == (200, 30)
    broken = ["30-50-2", "30:200", "30--2:8", "-30-2:8", "30-50-2:8:9", "", "a-b:3"]
    for text in (*broken, "30-50-0:200", "0-50-2:200", "30-50-2:0", "30-50-1:8"):
        with pytest.raises(ValueError, match=f"or layers and batch as in 64-100-10:32, 2 units or more at the end, got {text!r}"):
            named([text])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", runtime.isa_names())
def test_quick_table_and_json(isa: str, threads: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    words = ["--quick", "--rounds", "3", "--workloads", "rl64,9-8-7:6", "--dtype", "float64", "--isa", isa]
    assert program.main(["bench", *words, "--threads", str(threads), "--json", str(path)]) == 0
    table = capsys.readouterr().out
    found = json.loads(path.read_text())
    assert (found["isa"], found["threads"], found["dtype"]) == (isa, threads, "float64")
    assert found["fastbp"] == fastbp.__version__
    assert found["cpu"]
    assert (found["pinned_to"] is None) == (threads > 1 or not hasattr(os, "sched_setaffinity"))
    assert [row["name"] for row in found["workloads"]] == ["rl64", "9-8-7:6"]
    for row in found["workloads"]:
        assert row["name"] in table
        assert row["operations"] == named([row["name"]])[0].operations
        assert {len(values) for values in row["rounds"].values()} == {3}
        for name in ("reference", "fastbp"):
            assert row[f"{name}_us_min"] == min(row["rounds"][f"{name}_us"])
            assert 0 < row[f"{name}_us_min"] <= row[f"{name}_us_median"]
        assert row["ratio"] == pytest.approx(row["reference_us_min"] / row["fastbp_us_min"])
        assert row["gflops"] == pytest.approx(row["operations"] / row["fastbp_us_min"] / 1e3)
        peaks, times = row["rounds"]["peak_flops"], row["rounds"]["fastbp_us"]
        shares = [row["operations"] / (us * 1e-6 * peak) for us, peak in zip(times, peaks, strict=True)]
        assert row["share_of_peak"] == pytest.approx(sorted(shares)[1])
        assert row["peak_gflops"] == pytest.approx(sorted(peaks)[1] * 1e-9)
        assert row["first_loss"]["fastbp"] == pytest.approx(row["first_loss"]["reference"])


def test_without_threadpoolctl_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    lines: list[str] = []
    bench.run(named(["rl64"]), effort=bench.Effort(1, 0.001, 0.0), out=lines.append)
    assert "threadpoolctl is missing" in "\n".join(lines)


def test_everything_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> tuple[object, ...]:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        return os.environ.get("FASTBP_ISA"), runtime.get_num_threads(), cores

    monkeypatch.setenv("FASTBP_ISA", runtime.isa_names()[0])
    before = state()

    def stop(line: str) -> None:
        if line.startswith("rl64"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(named(["rl64"]), isa=runtime.isa_names()[-1], effort=bench.Effort(1, 0.001, 0.0), out=stop)
    assert state() == before
    monkeypatch.delenv("FASTBP_ISA")
    with bench.settings(runtime.isa_names()[-1], 3):
        assert (runtime.isa(), runtime.get_num_threads()) == (runtime.isa_names()[-1], 3)
    assert "FASTBP_ISA" not in os.environ


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workloads", "rl64,huge"], "workload must be one of rl64, digits"),
        (["--isa", "sse9"], "invalid choice: 'sse9'"),
        (["--dtype", "float16"], "invalid choice: 'float16'"),
        (["--threads", "0"], "must be an integer from 1 to 256, got '0'"),
        (["--json", "no/such/folder/b.json"], "must be a file in an existing folder"),
    ],
)
def test_wrong_arguments(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        program.main(["bench", *words])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_unknown_isa_in_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FASTBP_ISA", "sse9")
    assert program.main(["info"]) == 2
    assert "FASTBP_ISA must be one of" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"FASTBP_ISA must be one of .*, got 'sse7'"), bench.settings("sse7", 1):
        pass
    assert os.environ["FASTBP_ISA"] == "sse9"
