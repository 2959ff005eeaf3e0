"""The benchmark beside the peers: workers answer, losses agree, the missing are named, pages are right. Of times, no word."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import report
from benchmarks.cases import PREDICTED, PREDICTED_ROWS, TASKS, WIDTHS, Choice, Group, Lane
from benchmarks.driver import Crew, Effort, Worker, WorkerError, cores_for, difference, measure
from benchmarks.peers import NARROWING, PEERS, Peer, fastbp_net
from benchmarks.problem import Problem, cross_entropy
from benchmarks.results import Measured, Results, Row
from fastbp.runtime import get_num_threads
from fastbp.workloads import WORKLOADS, named

EPS32, EPS64 = 2.0**-23, 2.0**-52
BRIEF = Effort(rounds=3, least=3, block=1e-4, total=0.0, setup=60.0)
TINY = {"layers": [3, 4, 2], "batch": 5, "dtype": "float32"}
ABSENT = Peer("absent", "no_such_module", "never there")


def tiny(*peers: str, task: str = "sgd", threads: int = 1) -> Group:
    return Group(task, "tiny", (3, 4, 2), 5, "float32", threads, tuple(Lane(peer, peer, threads, task) for peer in peers))


# Workers --------------------------------------------------------------------------------------------------------------


def test_a_worker_answers() -> None:
    worker = Worker(PEERS["fastbp"], 1, cores_for(1))
    try:
        assert set(worker.about) == {"fastbp", "isa"}
        ready = worker.ask(60, do="setup", slot=0, task="sgd", **TINY)
        first, second, third = ready["losses"]
        assert first > second > third > 0
        found = worker.ask(60, do="time", slot=0, seconds=1e-4)
        assert found["seconds"] > 0 and found["steps"] >= 1
        assert worker.ask(60, do="peak", dtype="float32", seconds=1e-3)["flops"] > 0
        with pytest.raises(WorkerError, match="no such command: 'dance'"):
            worker.ask(60, do="dance")
        with pytest.raises(WorkerError, match="KeyError"):
            worker.ask(60, do="time", slot=7, seconds=1e-4)
        assert worker.ask(60, do="drop") == {}
    finally:
        worker.close()
    assert not worker.alive
    with pytest.raises(WorkerError, match="its process ended with 0"):
        worker.ask(60, do="drop")


def test_a_worker_that_says_nothing_is_ended() -> None:
    worker = Worker(PEERS["fastbp"], 1, cores_for(1))
    with pytest.raises(WorkerError, match="no answer within 0 s"):
        worker.ask(0.0, do="setup", slot=0, task="sgd", **TINY)
    assert not worker.alive


def test_fastbp_and_numpy_in_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NARROWING:
        monkeypatch.setenv(name, "nonsense")  # a worker does without them
    with Crew({**PEERS, "absent": ABSENT}) as crew:
        for task in ("sgd", "predict"):
            found = measure(tiny("fastbp", "numpy", "absent", task=task), crew, BRIEF)
            assert set(found.done) == {"fastbp", "numpy"}
            assert {len(row.seconds) for row in found.done.values()} == {len(found.peak)} == {3}
            own, other = found.done["fastbp"], found.done["numpy"]
            assert own.difference == 0 and other.difference is not None
            assert len(own.losses) == (3 if task == "sgd" else 1)
            assert own.losses == pytest.approx(other.losses, rel=64 * EPS32)
            assert found.rows[2].reason == "benchmarks.peers.no_such_module is not installed"
        assert crew.missing == {"absent": found.rows[2].reason}
        assert set(crew.versions) == {"fastbp, 1 thread", "numpy, 1 thread"}
        fit = measure(replace(tiny("fastbp"), lanes=tuple(Lane(t, "fastbp", 1, t) for t in ("steps", "fit"))), crew, BRIEF)
        assert set(fit.done) == {"steps", "fit"}
        copied = measure(replace(tiny("fastbp"), lanes=(Lane("copy", "memory", 1, "copy"),)), crew, BRIEF)
        assert set(copied.done) == {"copy"}


def test_a_peer_that_computes_something_else_has_no_time() -> None:
    with Crew() as crew:
        worker = crew.get("numpy", 1)
        ask = worker.ask

        def wrong(limit: float, **command: object) -> dict[str, object]:
            found = ask(limit, **command)
            return {**found, "losses": [1.01 * loss for loss in found["losses"]]} if "losses" in found else found

        worker.ask = wrong  # type: ignore[method-assign, assignment]
        found = measure(tiny("fastbp", "numpy"), crew, BRIEF)
        assert set(found.done) == {"fastbp"}
        assert found.rows[1].reason == "its losses differ by 1.0e-02"
        assert found.rows[1].label in report.block(found) and "its losses differ" in report.block(found)


def test_lanes_of_one_process_have_threads_of_their_own() -> None:
    before = get_num_threads()
    for threads in (1, 2, 0):
        job = fastbp_net.prepare(Problem("sgd", (3, 4, 2), 5, "float32", threads))
        with job.context():
            assert get_num_threads() == (threads or before)
        assert get_num_threads() == before
    with Crew() as crew:
        lanes = tuple(Lane(f"{n} threads", "fastbp", n, "sgd", process=1) for n in (1, 2))
        found = measure(replace(tiny(), lanes=lanes), crew, BRIEF)
        assert set(found.done) == {"1 threads", "2 threads"} and {len(row.losses) for row in found.rows} == {3}
        assert set(crew.workers) == {("fastbp", 1)}


def test_difference() -> None:
    assert difference([1.0, 2.0], [1.0, 2.0]) == 0
    assert difference([1.5], [1.0]) == 0.5
    assert difference([math.nan], [1.0]) == math.inf


def test_cross_entropy() -> None:
    problem = Problem("predict", (3, 4), 6, "float64")
    assert cross_entropy(0 * problem.x @ problem.weights[0], problem.y) == pytest.approx(math.log(4), rel=8 * EPS64)
    assert (problem.x == problem.rows(6)[0]).all() and problem.parameters == 16


def test_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    assert cores_for(1) == [5]
    assert cores_for(1, 0) == [0]
    assert cores_for(2, 1) == [1, 5]
    with pytest.raises(ValueError, match=r"core must be one of \[0, 1, 5\], got 3"):
        cores_for(1, 3)
    with pytest.raises(ValueError, match="4 threads need as many cores"):
        cores_for(4)


# Cases ----------------------------------------------------------------------------------------------------------------


def test_everything_asked_for_is_a_group() -> None:
    groups = Choice(WORKLOADS, tuple(TASKS), (1, 2), tuple(PEERS)).groups()
    of = {task: [group for group in groups if group.section == task] for task in TASKS}
    for task in ("sgd", "adam", "predict"):
        assert [(g.name, g.threads) for g in of[task]] == [(w.name, n) for n in (1, 2) for w in WORKLOADS]
        assert all([lane.peer for lane in g.lanes] == list(PEERS) for g in of[task])
    assert {(g.name, g.batch) for g in of["batches"]} == {(name, m) for name in PREDICTED for m in PREDICTED_ROWS}
    assert [g.layers[0] for g in of["growth"] if g.name == "width"] == list(WIDTHS)
    assert [g.batch for g in of["growth"] if g.name == "batch"] == [2**k for k in range(13)]
    assert len(of["threads"]) == 9 * 2 * 13
    assert {lane.threads for g in of["threads"] for lane in g.lanes} == {1, 2}
    assert [g.name for g in of["update"]] == ["mnist128", "mnist512", "wide4k"]
    work = named(["digits"])[0]
    by_name = {(g.section, g.name, g.threads): g for g in groups}
    assert by_name["sgd", "digits", 1].operations == work.operations
    assert by_name["predict", "digits", 1].operations == 2 * 32 * (64 * 100 + 100 * 10)


# Results and pages ----------------------------------------------------------------------------------------------------


def canned() -> Results:
    """fastbp 10 and 12 us, numpy 30 and 48, jax missing, onnxruntime faster in predictions; limits of 2.5, 5, 10 us a thread."""
    results = Results(
        {"order": list(PEERS), "cpu": "a CPU"}, {"fastbp, 1 thread": {"fastbp": "0.1"}}, {"jax": "jax is not installed"}
    )
    us = {"fastbp": [10.0, 12.0, 14.0], "numpy": [30.0, 48.0, 56.0], "onnxruntime": [8.0, 9.0, 10.0]}

    def group(section: str, name: str, batch: int, threads: int, lanes: dict[str, list[float]]) -> Measured:
        rows = [Row(label, [1e-6 * t for t in times], [1.0], 1e-7) for label, times in lanes.items()]
        operations = 10_000 * batch
        peaks = [rate * batch * threads for rate in ((4e9, 2e9, 1e9) if len(rows[0].seconds) == 3 else (2e9,))]
        rows.append(Row("jax", reason="jax is not installed"))
        return Measured(section, name, (10, 20, 5), batch, "float32", threads, operations, rows, peaks)

    training = {label: us[label] for label in ("fastbp", "numpy")}
    for threads in (1, 2):
        results.measured += [group(section, "rl64", 64, threads, training) for section in ("sgd", "adam")]
        results.measured.append(group("predict", "rl64", 64, threads, us))
    results.measured += [group("batches", "rl64", m, 1, us) for m in (1, 16)]
    results.measured += [group("growth", "batch", m, 1, training) for m in (1, 4, 16)]
    results.measured += [replace(group("growth", "width", 64, 1, training), layers=(w, w, 10)) for w in (16, 64)]
    shared = [("rl64 sgd", 1, 11.0), ("rl64 sgd", 64, 6.0), ("rl64 predict", 1, 10.1), ("rl64 predict", 64, 9.0)]
    for name, m, two in shared:
        results.measured.append(group("threads", name, m, 2, {"1 thread": [10.0], "2 threads": [two]}))
    results.measured.append(group("update", "rl64", 64, 1, {"sgd": [10.0], "adam": [20.0], "copy": [5.0]}))
    results.measured.append(group("fit", "rl64", 64, 1, {"steps": [10.0], "fit": [10.4]}))
    return results


def test_ratios_and_shares() -> None:
    training, _, predict, training_2 = canned().measured[:4]
    assert training.ratio("numpy") == pytest.approx(3.0, rel=8 * EPS32)
    assert training.median_ratio("numpy") == pytest.approx(4.0, rel=8 * EPS32)  # of 3, 4, 4
    assert training.ratio("jax") is None and training.share("jax") is None
    assert training.limit == pytest.approx(5e-6, rel=8 * EPS32)
    assert training.share("fastbp") == pytest.approx(5 / 12, rel=8 * EPS32)  # of 2.5 / 10, 5 / 12, 10 / 14
    assert training_2.share("fastbp") == pytest.approx(2.5 / 12, rel=8 * EPS32)  # of two cores
    assert training.runner_up() == ("numpy", training.ratio("numpy"))
    assert predict.runner_up() == ("onnxruntime", pytest.approx(0.8, rel=8 * EPS32))
    (update,) = report.update_rows(canned())
    assert update[1:] == pytest.approx((1e-5 / 325, 8 * 325 / 5e-6, 16.0), rel=8 * EPS32)


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    canned().save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == canned()


def test_page() -> None:
    text = report.page(canned(), [Path("docs/benchmarks/growth.svg")])
    assert "![growth](benchmarks/growth.svg)" in text
    assert "| jax | **missing**: jax is not installed |" in text
    assert "No figures of jax: jax is not installed." in text
    assert "| rl64: 10-20-5, 64 | 5.00 | 10.0 | 12.0 | 0.42 | 30.0 (3.00) |" in text
    assert "**8.00 (0.80)**" in text
    assert "fastbp is slower than a peer in rl64 with 1 row: onnxruntime (0.80); rl64 with 16 rows" in text
    assert "The worst of all is 1.100 (rl64 sgd)." in text
    assert "| rl64 sgd | **1.100** | 1 | 0.600 | 64 |" in text and "| rl64 predict | 1.010 | 1 | 0.900 | 64 |" in text
    assert "| rl64: 10-20-5, 64 | 10.0 | 10.4 | 1.040 |" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for line, below in pairwise(tables):
        assert not below.startswith("|---") or line.count("|") == below.count("|")
    for title in ("SGD, 1 thread", "Adam, 2 threads", "Prediction, 1 thread", "What Adam costs", "fit", "Growth"):
        assert f"## {title}" in text or f", {title}" in text


def test_terminal() -> None:
    text = report.block(canned().measured[0])
    assert "training step, SGD: rl64: 10-20-5, 64; 1 thread, float32; FMA limit 5.00 us" in text
    assert "jax is not installed" in text
    assert text.splitlines()[3].split() == ["numpy", "30.0", "48.0", "3.00", "4.00", "0.10", "1e-07"]
    assert "missing: jax: jax is not installed" in report.summary(canned())


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_charts(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import charts

    paths = charts.draw(canned(), tmp_path, suffix)
    assert [path.stem for path in paths] == ["overview-1", "overview-2", "growth", "batches", "threads"]
    assert all(path.stat().st_size > 1000 for path in paths)
    assert charts.draw(Results({"order": []}), tmp_path) == []


# The command line -----------------------------------------------------------------------------------------------------


def test_page_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canned().save(tmp_path / "saved.json")
    assert program.main(["--from", str(tmp_path / "saved.json"), "--out", str(tmp_path)]) == 0
    assert "# Benchmarks" in (tmp_path / "benchmarks.md").read_text()
    assert json.loads((tmp_path / "benchmarks" / "results.json").read_text())["missing"] == canned().missing
    assert "times fastbp's time" in capsys.readouterr().out


def test_quick_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--quick", "--rounds", "2", "--workloads", "rl64", "--tasks", "sgd", "--threads", "1", "--peers", "fastbp,numpy"]
    assert program.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    found = Results.load(tmp_path / "found.json")
    assert [m.section for m in found.measured] == ["sgd"]
    assert "training step, SGD: rl64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--peers", "fastbp,theano"], "must be of fastbp, numpy"),
        (["--tasks", "dream"], "must be of sgd, adam"),
        (["--workloads", "huge"], "workload must be one of"),
        (["--threads", "3"], "must be of 1, 2"),
    ],
)
def test_wrong_arguments(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        program.main(words)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
