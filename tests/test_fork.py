"""A forked child has no worker threads and may have been forked in the middle of anything: it trains on, with the same bits."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb

pytestmark = [
    pytest.mark.usefixtures("two_threads"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
SECONDS = 30  # until a child counts as hung
RNG = np.random.default_rng(0)
X = RNG.standard_normal((10000, 32), np.float32)
LABELS = RNG.integers(0, 10, len(X))


def network(seed: int = 0, momentum: float = 0.9) -> fb.Sequential:
    """A batch of 100 rows is work for a dozen threads, and rows of 160 weights are long enough to be kept packed."""
    layers = [fb.Input(32), fb.Dense(160, "relu"), fb.Dense(64, "tanh"), fb.Dense(10)]
    return fb.Sequential(layers, "cross_entropy", fb.SGD(0.05, momentum=momentum), seed=seed)


def digest(net: fb.Sequential) -> bytes:
    return hashlib.sha256(net.params.tobytes() + net.predict(X[:200]).tobytes()).digest()


def train(net: fb.Sequential) -> bytes:
    for start in range(0, 400, 100):
        net.train_step(X[start : start + 100], LABELS[start : start + 100])
    return digest(net)


class Child:
    """A forked process that sends what `work` returns, or the text of its exception."""

    def __init__(self, work: Callable[[], bytes]) -> None:
        self.pipe, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                result = work()
            except BaseException as error:
                result = repr(error).encode()
            os.write(write, result)
            os._exit(0)  # no clean-up of what belongs to the parent
        os.close(write)

    def result(self) -> bytes:
        try:
            ready, _, _ = select.select([self.pipe], [], [], SECONDS)
            assert ready, "the child hangs"
            return os.read(self.pipe, 1 << 16)
        finally:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.pipe)


def test_a_child_trains_on() -> None:
    net, twin = network(), network()
    train(net)
    child = Child(lambda: train(net))
    after = train(net)
    assert child.result() == after
    train(twin)
    assert train(twin) == after


def test_a_child_with_other_numbers_of_threads() -> None:
    net = network()
    train(net)

    def work(threads: int) -> bytes:
        fb.set_num_threads(threads)
        return train(net)

    children = [Child(lambda threads=threads: work(threads)) for threads in (1, 2, 4)]
    after = train(net)
    assert [child.result() for child in children] == [after] * 3


def test_a_child_uses_what_forward_kept() -> None:
    net = network()
    dout = np.cos(net.forward(X[:1000]))

    def work() -> bytes:
        net.backward(dout)
        net.update()
        return digest(net)

    child = Child(work)
    assert child.result() == work()


def test_a_child_of_a_child() -> None:
    net = network()
    train(net)
    grandchild: list[bytes] = []

    def work() -> bytes:
        own = train(net)
        grandchild.append(Child(lambda: train(net)).result())
        return own + grandchild[0] + train(net)

    child = Child(work)
    first, second = train(net), train(net)
    assert child.result() == first + second + second


def test_a_hundred_forks() -> None:
    net = network()
    for _ in range(100):
        train(net)  # so the workers may still be spinning
        child = Child(lambda: train(net))
        assert child.result() == train(net)


@pytest.fixture
def busy() -> Iterator[fb.Sequential]:
    """A network that another thread trains until the test ends."""
    net = network(1, momentum=0.0)
    enough = threading.Event()
    thread = threading.Thread(
        target=net.fit,
        args=(X, LABELS, 10**9),
        kwargs={"callback": lambda epoch, history: enough.is_set()},
        daemon=True,
    )
    thread.start()
    time.sleep(0.02)
    yield net
    enough.set()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_fork_while_another_thread_trains(busy: fb.Sequential) -> None:
    net = network()
    expected = train(network())
    for k in range(40):
        time.sleep(0.0013 * (k % 7))  # somewhere in the middle of a call
        assert Child(lambda: train(net)).result() == expected


def test_the_network_in_training_is_free_in_the_child(busy: fb.Sequential) -> None:
    """Its lock was held and its weights half-way between two steps: with weights of one's own it works."""
    twin = network(1, momentum=0.0)
    start = twin.params.copy()
    expected = train(twin)

    def work() -> bytes:
        busy.params[:] = start
        return train(busy)

    for k in range(40):
        time.sleep(0.0013 * (k % 7))  # somewhere in the middle of a call
        assert Child(work).result() == expected


def test_the_network_in_training_is_consistent_in_the_child(busy: fb.Sequential) -> None:
    """Whatever its weights are, its predictions and its gradients are theirs."""

    def work() -> bytes:
        twin = network()
        results = []
        for net in (busy, twin):
            results.append(net.predict(X[:100]))
            net.backward(np.ones_like(net.forward(X[:100])))
            results.append(net.grads.copy())
            twin.params = busy.params  # not before: a view that is out makes a network look at its weights anew
        for a, b in zip(results[:2], results[2:], strict=True):
            np.testing.assert_array_equal(a, b)
        return b"consistent"

    for k in range(40):
        time.sleep(0.0013 * (k % 7))  # somewhere in the middle of a call
        assert Child(work).result() == b"consistent"


def test_fork_while_another_thread_freezes_layers() -> None:
    net, enough = network(1, momentum=0.0), threading.Event()
    start, layer = net.params.copy(), net.layers[1]

    def toggle() -> None:
        while not enough.is_set():
            net.plan.set_trainable(1, False)
            net.plan.set_trainable(1, True)

    def work() -> bytes:
        layer.trainable = False
        layer.trainable = True
        net.params[:] = start
        return train(net)

    expected = train(network(1, momentum=0.0))
    thread = threading.Thread(target=toggle, daemon=True)
    thread.start()
    try:
        for _ in range(300):  # one in a hundred comes between two lines
            assert Child(work).result() == expected
    finally:
        enough.set()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_fork_while_another_thread_predicts() -> None:
    net = network()
    expected = digest(net)
    enough = threading.Event()

    def predict() -> None:
        while not enough.is_set():
            net.predict(X[:1])

    threads = [threading.Thread(target=predict, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            assert Child(lambda: digest(net)).result() == expected
    finally:
        enough.set()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


POOLS = """
import hashlib, multiprocessing, sys
import numpy as np
import fastbp as fb

def train(seed):
    fb.set_num_threads(2)
    x = np.cos(np.arange(32000, dtype=np.float32)).reshape(1000, 32)
    layers = [fb.Input(32), fb.Dense(96, "relu"), fb.Dense(10)]
    net = fb.Sequential(layers, "cross_entropy", fb.SGD(0.1), seed=seed)
    net.fit(x, np.arange(1000) % 10, 2, batch_size=100)
    return hashlib.sha256(net.params.tobytes()).hexdigest()

if __name__ == "__main__":
    expected = [train(seed) for seed in range(4)]
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map_async(train, range(4)).get(timeout=30) == expected
    print("equal")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    script = tmp_path / "pools.py"
    script.write_text(POOLS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(script), method], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr
