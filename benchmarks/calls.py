"""What a call costs before any arithmetic: a 1-1 network, batch 1, nanoseconds per call."""

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
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    fb.set_num_threads(1)
    net = fb.Sequential([fb.Input(1), fb.Dense(1)], loss="squared_error", optimizer=fb.SGD(0.0), seed=0)
    x, y, out = np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), np.empty((1, 1), np.float32)
    calls = {
        "predict(x)": lambda: net.predict(x),
        "predict(x, out=out)": lambda: net.predict(x, out=out),
        "train_step(x, y)": lambda: net.train_step(x, y),
        "forward(x)": lambda: net.forward(x),
        "nothing": lambda: None,
    }
    print(f"{fb.isa()}, one thread; ns per call")
    for name, call in calls.items():
        low, median = nanoseconds(call)
        print(f"{name:>20}  min {low:7.0f}  median {median:7.0f}")


if __name__ == "__main__":
    main()
