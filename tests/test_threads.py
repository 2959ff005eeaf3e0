"""Threads: how many, side by side, always the same bits; and the caller's floating-point mode is left alone."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp import runtime

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6000, 32), np.float32)
LABELS = RNG.integers(0, 10, len(X))


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = fb.get_num_threads()
    yield
    fb.set_num_threads(before)


def network(seed: int = 0, dtype: str = "float32") -> fb.Sequential:
    """Enough work in a batch of 100 rows for a dozen threads."""
    layers = [fb.Input(32), fb.Dense(96, "relu"), fb.Dense(64, "tanh"), fb.Dense(10)]
    return fb.Sequential(layers, "cross_entropy", fb.SGD(0.05, momentum=0.9), dtype=dtype, seed=seed)


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def in_threads(*work: Callable[[], object], seconds: float = 60) -> None:
    """Run all side by side; whatever one of them raises is raised here, and a hang fails."""
    errors: list[BaseException] = []

    def run(part: Callable[[], object]) -> None:
        try:
            part()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(part,), daemon=True) for part in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "hangs"
    if errors:
        raise errors[0]


# How many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 256])
def test_number_of_threads_is_remembered(n: int) -> None:
    fb.set_num_threads(n)
    assert fb.get_num_threads() == n
    assert fb.show_config("dicts")["threads"] == str(n)


ENVIRONMENTS = {
    "fastbp_first": ({"FASTBP_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
    "omp": ({"OMP_NUM_THREADS": "5"}, 5),
    "omp_levels": ({"OMP_NUM_THREADS": "6,2,1"}, 6),
    "spaces": ({"FASTBP_NUM_THREADS": " 3 "}, 3),
    "zeros": ({"FASTBP_NUM_THREADS": "007"}, 7),
    "capped": ({"FASTBP_NUM_THREADS": "99999"}, 256),
    "zero_is_unset": ({"FASTBP_NUM_THREADS": "0", "OMP_NUM_THREADS": "5"}, 5),
    "empty_is_unset": ({"FASTBP_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
    "nonsense_is_unset": ({"FASTBP_NUM_THREADS": "four", "OMP_NUM_THREADS": "5"}, 5),
    "negative_is_unset": ({"FASTBP_NUM_THREADS": "-4", "OMP_NUM_THREADS": "5"}, 5),
    "fraction_is_unset": ({"FASTBP_NUM_THREADS": "1.5", "OMP_NUM_THREADS": "5"}, 5),
    "superscript_is_unset": ({"FASTBP_NUM_THREADS": "²", "OMP_NUM_THREADS": "5"}, 5),
    "more_digits_than_int_takes": ({"FASTBP_NUM_THREADS": "9" * 10000}, 256),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment(name: str) -> None:
    environment, expected = ENVIRONMENTS[name]
    assert runtime.default_threads(environment) == expected


@pytest.mark.parametrize(
    ("cpus", "quota", "expected"),
    [(8, math.inf, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.25, 1), (2, 7.0, 2), (500, math.inf, 256)],
)
def test_affinity_and_quota(monkeypatch: pytest.MonkeyPatch, cpus: int, quota: float, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
    monkeypatch.setattr(runtime, "cgroup_quota", lambda: quota)
    assert runtime.default_threads({}) == expected


V1 = "12:memory:/ignored\n4:cpu,cpuacct:{}\n3:cpuset:/ignored\n"
CGROUPS: dict[str, tuple[str, dict[str, str], float]] = {
    "v2": ("0::/job\n", {"job/cpu.max": "150000 100000\n"}, 1.5),
    "v2_no_limit": ("0::/job\n", {"job/cpu.max": "max 100000\n"}, math.inf),
    "v2_at_the_root": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
    "v2_parent_is_tighter": ("0::/a/b/c\n", {"a/cpu.max": "100000 100000\n", "a/b/c/cpu.max": "400000 100000\n"}, 1.0),
    "v2_child_is_tighter": ("0::/a/b/c\n", {"a/cpu.max": "400000 100000\n", "a/b/c/cpu.max": "50000 100000\n"}, 0.5),
    "v2_only_grandparent": ("0::/a/b/c\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3.0),
    "v2_sibling_does_not_count": ("0::/a\n", {"b/cpu.max": "100000 100000\n"}, math.inf),
    "v2_path_outside_of_the_mount": ("0::/../../a\n", {"cpu.max": "100000 100000\n"}, 1.0),
    "v1": (V1.format("/docker/7"), {"cpu/docker/7/cpu.cfs_quota_us": "250000\n"}, 2.5),
    "v1_no_limit": (V1.format("/docker/7"), {"cpu/docker/7/cpu.cfs_quota_us": "-1\n"}, math.inf),
    "v1_nested": (V1.format("/a/b"), {"cpu/a/cpu.cfs_quota_us": "70000\n", "cpu/a/b/cpu.cfs_quota_us": "-1\n"}, 0.7),
    "v1_inside_of_a_container": (V1.format("/docker/7"), {"cpu/cpu.cfs_quota_us": "200000\n"}, 2.0),
    "v1_and_v2": (
        V1.format("/a") + "0::/a\n",
        {"cpu/a/cpu.cfs_quota_us": "300000\n", "a/cpu.max": "max 100000\n"},
        3.0,
    ),
    "colon_in_the_path": ("0::/a:b\n", {"a:b/cpu.max": "100000 100000\n"}, 1.0),
    "garbage": ("0::/a\n", {"a/cpu.max": "garbage\n", "cpu.max": "1 0\n"}, math.inf),
    "garbled_line": ("0:/a\n\n0::/b\n", {"b/cpu.max": "100000 100000"}, 1.0),
    "no_files": ("0::/a\n", {}, math.inf),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_cgroup_quota(tmp_path: Path, name: str) -> None:
    groups, files, expected = CGROUPS[name]
    (tmp_path / "cgroup").write_text(groups)
    for path, text in files.items():
        file = tmp_path / "fs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if file.name == "cpu.cfs_quota_us":
            (file.parent / "cpu.cfs_period_us").write_text("100000\n")
    assert runtime.cgroup_quota(tmp_path / "cgroup", tmp_path / "fs") == expected


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    assert runtime.cgroup_quota(tmp_path / "none", tmp_path) == math.inf
    (tmp_path / "cgroup").write_bytes(b"0::/\xff\xfe\n")
    assert runtime.cgroup_quota(tmp_path / "cgroup", tmp_path) == math.inf


def run(code: str, **environment: str) -> str:
    keep = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    keep["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=keep | environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_import_sets_the_default() -> None:
    one = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    report = "import fastbp; print(fastbp.get_num_threads())"
    assert run(one + report) == "1"
    assert run(one + report, FASTBP_NUM_THREADS="4", OMP_NUM_THREADS="3") == "4"


# Same bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_gives_the_same_bits(dtype: str) -> None:
    results = set()
    for threads in (1, 2, 3, 5):
        fb.set_num_threads(threads)
        net = network(dtype=dtype)
        losses = net.fit(X[:2000], LABELS[:2000], 2, batch_size=100).loss
        losses.append(net.train_step(X, LABELS))  # more rows than one reduction
        out = net.forward(X[:500])
        dx = net.backward(np.ones_like(out), inputs=True)
        assert dx is not None
        net.update()
        results.add(digest(np.array(losses), net.params, net.grads, net.predict(X), out, dx))
    assert len(results) == 1


def test_threads_may_change_in_the_middle() -> None:
    nets = network(), network()
    fb.set_num_threads(1)
    nets[0].fit(X, LABELS, 4)
    for epoch in range(4):
        fb.set_num_threads(epoch + 1)
        nets[1].fit(X, LABELS)
    assert digest(nets[0].params) == digest(nets[1].params)


# Side by side ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 50, len(X)])
def test_many_predict_on_one_network(rows: int, threads: int) -> None:
    fb.set_num_threads(threads)
    net = network()
    expected = net.predict(X)

    def predict() -> None:
        for start in range(0, 20 * rows, rows):
            part = slice(start % len(X), start % len(X) + rows)
            np.testing.assert_array_equal(net.predict(X[part]), expected[part])

    in_threads(*[predict] * 8)


@pytest.mark.parametrize("threads", [1, 2])
def test_predict_while_another_thread_trains(threads: int) -> None:
    fb.set_num_threads(threads)
    trained, alone, untouched = network(1), network(1), network(2)
    expected = untouched.predict(X)
    done = threading.Event()

    def train() -> None:
        trained.fit(X, LABELS, 8, batch_size=50)
        done.set()

    def predict() -> None:
        calls = 0
        while not done.is_set() or calls == 0:
            np.testing.assert_array_equal(untouched.predict(X[:500]), expected[:500])
            assert np.isfinite(trained.predict(X[:500])).all()
            assert np.isfinite(trained.layers[1].weight).all()  # type: ignore[union-attr]
            calls += 1

    in_threads(train, predict, predict)
    alone.fit(X, LABELS, 8, batch_size=50)
    assert digest(trained.params) == digest(alone.params)


@pytest.mark.parametrize("threads", [1, 2])
def test_networks_trained_side_by_side(threads: int) -> None:
    fb.set_num_threads(threads)
    side_by_side, alone = ([network(seed) for seed in range(4)] for _ in range(2))
    in_threads(*(lambda net=net: net.fit(X, LABELS, 3, batch_size=50) for net in side_by_side))
    for net, twin in zip(side_by_side, alone, strict=True):
        twin.fit(X, LABELS, 3, batch_size=50)
        assert digest(net.params) == digest(twin.params)


def test_two_train_one_network() -> None:
    """Whole steps of one or the other: with equal steps, the order does not matter."""
    net, twin = network(), network()
    x, y = X[:100], LABELS[:100]
    in_threads(*[lambda: [net.train_step(x, y) for _ in range(50)]] * 4)
    for _ in range(200):
        twin.train_step(x, y)
    assert digest(net.params) == digest(twin.params)


def test_threads_may_end() -> None:
    """The pool outlives the Python threads that use it."""
    net = network()
    expected = digest(net.predict(X))
    for _ in range(30):
        in_threads(lambda: net.predict(X))
    assert digest(net.predict(X)) == expected


# The floating-point mode ----------------------------------------------------------------------------------------------


def assert_gradual_underflow() -> None:
    """Denormal numbers are neither flushed as results nor as operands."""
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        small = np.full(64, info.smallest_normal, dtype)
        assert (small / dtype(2) > 0).all(), "results are flushed"
        assert (np.full(64, info.smallest_subnormal, dtype) * dtype(2) > 0).all(), "operands are flushed"
    assert 5e-324 * 1.0 > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_floating_point_mode_is_restored(threads: int) -> None:
    fb.set_num_threads(threads)

    def use() -> None:
        net = network()
        steps: list[Callable[[], object]] = [
            lambda: net.train_step(X, LABELS),
            lambda: net.fit(X, LABELS, batch_size=1000),
            lambda: net.predict(X),
            lambda: net.backward(net.forward(X)),
            lambda: net.update(),
            lambda: net.evaluate(X, LABELS),
            lambda: fb.losses.cross_entropy(X, LABELS),
            lambda: fb.Activation("softmax").forward(X),
            lambda: fb.runtime.fma_peak(seconds=0.001),
        ]
        assert_gradual_underflow()
        for step in steps:
            step()
            assert_gradual_underflow()
        with pytest.raises(ValueError, match="y must hold"):
            net.train_step(X, LABELS + 10)
        assert_gradual_underflow()
        with pytest.raises(StopIteration):
            net.fit(X, LABELS, callback=lambda epoch, history: next(iter(())))
        assert_gradual_underflow()

    use()
    in_threads(use)


def test_import_leaves_the_floating_point_mode() -> None:
    assert (
        run("import fastbp, numpy as np; print((np.full(64, 1e-40, 'f4') * np.float32(2)).all(), 5e-324 * 1.0 > 0)")
        == "True True"
    )


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_denormals_are_flushed_in_every_thread(threads: int) -> None:
    """In a worker as in the caller: otherwise bits would depend on threads."""
    fb.set_num_threads(threads)
    layer = fb.Dense(96, inputs=32, seed=0)
    x = np.full((4000, 32), 1e-39, np.float32)
    assert not layer.forward(x).any(), "operands are not flushed"
    x[:] = np.finfo(np.float32).smallest_normal
    layer.weight = np.zeros((32, 96))
    layer.weight[0] = 0.25
    assert not layer.forward(x).any(), "results are not flushed"
