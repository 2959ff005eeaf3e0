"""Memory: none in the steady state, one block of rows for a prediction, nothing left behind; views keep theirs alive."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp as fb

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2000, 32), np.float32)
LABELS = RNG.integers(0, 10, len(X))
PAGE = 4096
SLACK = 32 * PAGE  # what an allocator may keep for itself


pytestmark = pytest.mark.usefixtures("two_threads")


SGD = fb.SGD(0.05, momentum=0.9)


def network(units: int = 160, optimizer: fb.optimizers.Optimizer = SGD) -> fb.Sequential:
    layers = [fb.Input(32), fb.Dense(units, "relu"), fb.Dense(64, "tanh"), fb.Dense(10)]
    return fb.Sequential(layers, "cross_entropy", optimizer, seed=0)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def growth(call: Callable[[], object], times: int) -> int:
    """Bytes that `times` calls add, after some to warm up: the smallest of three tries."""
    for _ in range(times // 4):
        call()
    tries = []
    for _ in range(3):
        gc.collect()
        before = resident()
        for _ in range(times):
            call()
        gc.collect()
        tries.append(resident() - before)
    return min(tries)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
NET = network()
CLIPS = network(optimizer=fb.Adam(clip_norm=1.0, accumulate=2))
OUT = np.empty((len(X), 10), np.float32)
DOUT = np.ones((100, 10), np.float32)


def by_hand() -> None:
    NET.forward(X[:100])
    NET.backward(DOUT, inputs=True)
    NET.update()


def refused() -> None:
    with pytest.raises(ValueError, match="y must hold"):
        NET.train_step(X[:100], LABELS[:100] + 10)


STEADY: dict[str, Callable[[], object]] = {
    "train_step": lambda: NET.train_step(X[:100], LABELS[:100]),
    "train_step_converted": lambda: NET.train_step(X[:100, ::-1].astype(float), LABELS[:100].astype(np.int8)),
    "fit": lambda: NET.fit(X[:200], LABELS[:200], batch_size=64),
    "predict": lambda: NET.predict(X[:100]),
    "predict_out": lambda: NET.predict(X, out=OUT),
    "predict_proba": lambda: NET.predict_proba(X[:100]),
    "evaluate": lambda: NET.evaluate(X[:100], LABELS[:100]),
    "by_hand": by_hand,
    "clip_and_accumulate": lambda: CLIPS.train_step(X[:100], LABELS[:100]),
    "slots": lambda: CLIPS.plan.slot(1),
    "views": lambda: (NET.params, NET.grads, NET.layers[1].weight, NET.layers[1].dbias),  # type: ignore[union-attr]
    "loss": lambda: fb.losses.cross_entropy(OUT[:100], LABELS[:100]),
    "refused": refused,
}


@linux
@pytest.mark.parametrize("name", STEADY)
def test_the_steady_state_allocates_nothing(name: str) -> None:
    """A leak of 300 bytes a call would show."""
    times = SLACK // 300
    STEADY[name]()
    held = [net.plan.nbytes for net in (NET, CLIPS)]
    assert growth(STEADY[name], times) < SLACK
    assert [net.plan.nbytes for net in (NET, CLIPS)] == held


@pytest.mark.parametrize("name", STEADY)
def test_no_python_object_is_left(name: str) -> None:
    for _ in range(10):
        STEADY[name]()
    tracemalloc.start()
    try:
        STEADY[name]()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            STEADY[name]()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 200 * 8, "8 bytes a call are less than any object"
    finally:
        tracemalloc.stop()


def test_references_are_given_back() -> None:
    """Buffers of arguments are held during a call only."""
    x, y, out = X[:100].copy(), LABELS[:100].copy(), np.empty((100, 10), np.float32)
    counts = [sys.getrefcount(a) for a in (x, y, out)]
    NET.train_step(x, y)
    NET.predict(x, out=out)
    NET.fit(x, y, validation_data=(x, y))
    NET.backward(NET.forward(x))
    for bad in (
        lambda: NET.train_step(x, y + 10),
        lambda: NET.predict(x, out=out[:5]),
        lambda: NET.train_step(x[:, :5], y),
    ):
        with pytest.raises(ValueError, match="must"):
            bad()
    assert [sys.getrefcount(a) for a in (x, y, out)] == counts
    for a in (x, y, out):
        a.resize((7,), refcheck=False)  # which a held buffer would forbid


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_predictions_of_any_number_of_rows_take_one_block() -> None:
    net = network()
    sizes = set()
    for rows in (5_000, 50_000, 500_000):
        net.predict(np.broadcast_to(X[:1], (rows, 32)))
        sizes.add(net.plan.nbytes)
    assert len(sizes) == 1
    assert sizes.pop() < 500_000 * 32


@linux
def test_a_large_prediction_takes_its_result_only() -> None:
    net, out = network(), np.ones((500_000, 10), np.float32)
    many = np.broadcast_to(X[:1].astype(float), (500_000, 32))
    net.predict(many[:5000], out=out[:5000])
    before = resident()
    net.predict(many, out=out)
    assert resident() - before < SLACK


def test_a_workspace_grows_to_the_largest_batch_and_stays() -> None:
    net = network()
    held = []
    for rows in (10, 1, 100, 50, 2000, 1, 2000, 1999):
        net.train_step(X[:rows], LABELS[:rows])
        held.append(net.plan.nbytes)
    assert held[0] == held[1] < held[2] == held[3] < held[4] == held[5] == held[6] == held[7]
    twin = network()
    for rows in (10, 1, 100, 50, 2000, 1, 2000, 1999):
        twin.forward(X)  # a large workspace from the start changes no bit
        twin.train_step(X[:rows], LABELS[:rows])
    np.testing.assert_array_equal(net.params, twin.params)


@pytest.mark.parametrize("optimizer, slots", [(fb.SGD(0.1), 0), (fb.SGD(0.1, momentum=0.9), 1), (fb.Adam(1e-3), 2)])
def test_training_takes_what_it_needs_and_a_quarter_at_most(optimizer: Any, slots: int) -> None:
    """Parameters, gradients, optimizer state, packed weights, and O and dE/dO of one batch."""
    widths, rows = (784, 512, 512, 10), 128
    layers: list[Any] = [fb.Input(widths[0]), *(fb.Dense(u, "relu") for u in widths[1:-1]), fb.Dense(widths[-1])]
    net = fb.Sequential(layers, "cross_entropy", optimizer, seed=0)
    net.train_step(np.zeros((rows, widths[0]), np.float32), np.zeros(rows, int))
    reals = sum((i + 1) * u for i, u in itertools.pairwise(widths))
    packed = sum(i * u for i, u in itertools.pairwise(widths) if u > 128)
    assert net.params.size == net.plan.parameters == reals
    needed = 4 * ((2 + slots) * reals + packed + 2 * rows * sum(widths))
    assert needed <= net.plan.nbytes <= needed * 5 / 4


# Lives ----------------------------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("units", [16, 2000], ids=["small", "large"])
def test_networks_leave_nothing(units: int) -> None:
    """Large ones map their memory, small ones take it from the heap."""

    def live() -> None:
        net = network(units)
        for rows in (5, 50, 500):
            net.train_step(X[:rows], LABELS[:rows])
        net.predict(X[:50])
        net.layers[1].weight[0, 0] = 1.0  # type: ignore[union-attr]

    assert growth(live, 100) < 4 * SLACK


@linux
def test_networks_that_cannot_be_made_leave_nothing() -> None:
    def fail() -> None:
        with pytest.raises((ValueError, MemoryError)):
            fb.Dense(2**40, inputs=2**40)
        with pytest.raises(ValueError, match="weight_init"):
            fb.Sequential([fb.Input(300), fb.Dense(300), fb.Dense(3, weight_init=[[1.0]])])

    assert growth(fail, 100) < SLACK


COLLECTED = """
import gc
import numpy as np
import fastbp as fb

class Own:
    def __call__(self, z): return z

own = Own()
net = fb.Sequential([fb.Input(3), fb.Dense(2, (own, np.ones_like))], "squared_error", fb.SGD(0.1))
box = [net.params.base]
box.append(box)
own.box = box
del net, box, own
gc.collect()
"""


def test_a_view_in_a_circle_outlives_no_plan() -> None:
    """It gives its memory back to the plan, which the collector must leave it until then."""
    done = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WITHOUT_MEMORY = """
import ctypes, mmap, resource
import numpy as np
import fastbp as fb

net = fb.Sequential([fb.Input(100), fb.Dense(2000, "relu"), fb.Dense(10)], "cross_entropy", fb.SGD(0.1), seed=0)
x, y = np.zeros((50_000, 100), np.float32), np.zeros(50_000, np.int64)
before = net.train_step(x[:8], y[:8])
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
fixed, low = 0x100000, 1 << 20  # where a program that is not moved about may lie
assert libc.mmap(low, 4096, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed, -1, 0) == low
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), resource.RLIM_INFINITY))
for call in (lambda: net.forward(x), lambda: net.train_step(x, y), lambda: fb.Sequential([fb.Input(10_000), fb.Dense(10_000)])):
    try:
        call()
    except MemoryError as error:
        print(error)
    assert libc.msync(low, 4096, 1) == 0, "what lies there was unmapped"
assert net.train_step(x[:8], y[:8]) < before
"""


@linux
def test_without_memory() -> None:
    """What was not mapped is not unmapped, and the network goes on."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3, done.stdout


def test_a_network_is_freed_with_its_last_reference() -> None:
    net = network()
    gone = weakref.ref(net)
    net.fit(X, LABELS)
    del net
    assert gone() is None, "a circle of references"


@pytest.mark.parametrize("what", ["weight", "bias", "dweight", "dbias", "params", "grads"])
def test_a_view_keeps_its_memory(what: str) -> None:
    net = network(2000)
    net.backward(np.ones_like(net.forward(X)))
    view = getattr(net, what) if what in ("params", "grads") else getattr(net.layers[1], what)
    expected = view.copy()
    part = view[..., 1:3]
    del net, view
    gc.collect()
    for _ in range(20):  # what would take the place of freed memory
        network(2000).train_step(X[:50], LABELS[:50])
    np.testing.assert_array_equal(part, expected[..., 1:3])
    part[...] = 7
    assert (part == 7).all()


def test_a_layer_outlives_its_network() -> None:
    net = network()
    layer = net.layers[1]
    weight = layer.weight.copy()  # type: ignore[union-attr]
    del net
    gc.collect()
    np.testing.assert_array_equal(layer.weight, weight)  # type: ignore[union-attr]


def test_results_belong_to_the_caller() -> None:
    net = network()
    results = [net.forward(X[:50]), net.predict(X[:50]), net.backward(np.ones((50, 10)), inputs=True)]
    copies = [result.copy() for result in results if result is not None]
    for _ in range(3):
        net.train_step(X, LABELS)
        net.backward(net.forward(X[50:100]), inputs=True)
        net.predict(X)
    for result, copy in zip(results, copies, strict=True):
        assert result is not None and result.flags.owndata
        np.testing.assert_array_equal(result, copy)
