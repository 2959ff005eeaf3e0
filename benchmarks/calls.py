"""What a call costs before any arithmetic: a 1-1 network, batch 1, nanoseconds per call."""

import argparse
import os
import time

import numpy as np

import fastbp as fb


def nanoseconds(call, repeat=7, number=20_000):
    """Minimum and median over `repeat` rounds of `number` calls."""
    rounds = []
    for _ in range(repeat):
        began = time.perf_counter_ns()
        for _ in range(number):
            call()
        rounds.append((time.perf_counter_ns() - began) / number)
    return min(rounds), sorted(rounds)[repeat // 2]


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    fb.set_num_threads(1)
    net = fb.Sequential([fb.Input(1), fb.Dense(1)], loss="squared_error", optimizer=fb.SGD(0.0), seed=0)
    classifier = fb.Sequential([fb.Input(1), fb.Dense(2)], loss="cross_entropy", seed=0)
    x, y, out = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), np.empty((1, 1), np.float32)
    weight = np.ones(1)
    layer = fb.Dense(1, inputs=1, seed=0)

    def by_hand():
        _, dout = fb.losses.squared_error(net.forward(x), y)
        net.backward(dout)
        net.update()

    calls = {
        "predict(x)": lambda: net.predict(x),
        "predict(x, out=out)": lambda: net.predict(x, out=out),
        "predict_proba(x)": lambda: classifier.predict_proba(x),
        "train_step(x, y)": lambda: net.train_step(x, y),
        "train_step(x, y, weight)": lambda: net.train_step(x, y, weight),
        "evaluate(x, y)": lambda: net.evaluate(x, y),
        "forward(x)": lambda: net.forward(x),
        "squared_error(out, y)": lambda: fb.losses.squared_error(out, y),
        "forward, loss, backward, update": by_hand,
        "a layer's forward(x)": lambda: layer.forward(x),
        "nothing": lambda: None,
    }
    print(f"{fb.isa()}, one thread; ns per call")
    for name, call in calls.items():
        low, median = nanoseconds(call)
        print(f"{name:>31}  min {low:7.0f}  median {median:7.0f}")


if __name__ == "__main__":
    main()
