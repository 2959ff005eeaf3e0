"""What a graph costs: skip connections beside a chain with the same products, and the way back beside the way forward.

One core; the cases of a line take turns, so that drift of the machine cancels; median ratios of the rounds.
"""

import argparse
import os
import time
from functools import partial

import numpy as np

import fastbp as fb

ROUNDS, SECONDS = 15, 0.02  # of a block of calls
SIZES = ((64, 64), (128, 128), (256, 256), (512, 256), (1024, 256))  # width, batch
DEPTH = 4


def chain(h, width):
    return fb.Dense(width, "relu")(h)


def skip(h, width):
    return h + fb.Dense(width, "relu")(h)


def skip_before(h, width):
    return fb.Activation("relu")(h + fb.Dense(width)(h))


def network(block, width):
    x = h = fb.Input(width)
    for _ in range(DEPTH):
        h = block(h, width)
    return fb.Model(x, fb.Dense(10)(h), loss="cross_entropy", optimizer=fb.SGD(1e-4), seed=0)


def rounds(calls):
    """Seconds of each call in each round, (calls, rounds)."""
    repeat = []
    for call in calls:
        call()
        began = time.perf_counter()
        call()
        repeat.append(max(1, int(SECONDS / (time.perf_counter() - began))))
    times = np.empty((len(calls), ROUNDS))
    for r in range(ROUNDS):
        for i, call in enumerate(calls):
            began = time.perf_counter()
            for _ in range(repeat[i]):
                call()
            times[i, r] = (time.perf_counter() - began) / repeat[i]
    return times


def skips():
    print("training step, share of the speed of the chain   h + relu(h W)   relu(h + h W)")
    rng = np.random.default_rng(0)
    for width, batch in SIZES:
        x, y = rng.normal(size=(batch, width)).astype(np.float32), np.arange(batch) % 10
        nets = [network(block, width) for block in (chain, skip, skip_before)]
        times = rounds([partial(net.train_step, x, y) for net in nets])
        shares = np.median(times[0] / times[1:], axis=1)
        print(f"{width:5} wide, batch {batch:4} {np.median(times[0]) * 1e6:12.1f} us {shares[0]:20.3f} {shares[1]:15.3f}")


def way_back(depth=20):
    print(f"\n{depth} layers: backward over forward, all gradients of parameters")
    for width, batch in SIZES[:3]:
        layers = [fb.Input(width), *(fb.Dense(width, "tanh") for _ in range(depth))]
        net = fb.Sequential(layers, seed=0)
        x = np.random.default_rng(0).normal(size=(batch, width)).astype(np.float32)
        dout = np.ones_like(net.forward(x))
        forward, backward = rounds([partial(net.forward, x), partial(net.backward, dout)])
        print(f"{width:5} wide, batch {batch:4} {np.median(backward / forward):10.2f}")


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    fb.set_num_threads(1)
    print(f"{fb.isa()}, float32, one thread, {ROUNDS} rounds")
    skips()
    way_back()


if __name__ == "__main__":
    main()
