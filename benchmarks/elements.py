"""What all beside the products costs: ns per element, in a training step and in a prediction, beyond the network without it.

A layer or activation after 256 units, 128 rows; losses by themselves; inputs of other types, 784 columns. What is far above its
neighbours has a loop that is not in registers. Also a view of the parameters that is held, in percent of a step.
"""

import argparse
import os
import time

import numpy as np
from calls import nanoseconds

import fastbp as fb
from fastbp.workloads import WORKLOADS, problem

ROWS, UNITS, COLUMNS = 128, 256, 784
ACTIVATIONS = ("relu", "sigmoid", "tanh", "softmax", "log_softmax", "gelu", "silu")
LAYERS = {
    "Dropout": lambda: fb.Dropout(0.5),
    "BatchNorm": fb.BatchNorm,
    "LayerNorm": fb.LayerNorm,
    "RMSNorm": fb.RMSNorm,
} | {name: lambda name=name: fb.Activation(name) for name in ACTIVATIONS}
OPERATORS = {
    "h + relu(h)": lambda h, r: h + r,
    "h * relu(h)": lambda h, r: h * r,
    "maximum": lambda h, r: fb.maximum(h, r),
    "concatenate": lambda h, r: fb.concatenate([h, r]),
}
TYPES = ("float64", "float16", "uint8", "int16", "int64", ">f4")


def fastest(call, seconds=0.02):
    """Nanoseconds of a call in the fastest of some rounds, each of about as long."""
    call()
    began = time.perf_counter()
    call()
    return nanoseconds(call, number=max(3, int(seconds / (time.perf_counter() - began))))[0]


def network(inputs, middle, outputs=8):
    x = fb.Input(inputs)
    return fb.Model(x, fb.Dense(outputs)(middle(fb.Dense(UNITS)(x))), loss="squared_error", optimizer=fb.SGD(1e-3), seed=0)


def step_and_prediction(net, x, y):
    return fastest(lambda: net.train_step(x, y)), fastest(lambda: net.predict(x))


def gates(rng):
    x, y = rng.normal(size=(ROWS, 64)).astype("f"), rng.normal(size=(ROWS, 8)).astype("f")
    alone = step_and_prediction(network(64, lambda h: h), x, y)
    cases = {name: lambda h, make=make: make()(h) for name, make in LAYERS.items()}
    cases |= {name: lambda h, f=f: f(h, fb.Activation("relu")(h)) for name, f in OPERATORS.items()}
    for name, middle in cases.items():
        more = np.subtract(step_and_prediction(network(64, middle), x, y), alone) / (ROWS * UNITS)
        print(f"{name:>16}  step {more[0]:6.2f}  prediction {more[1]:6.2f}", flush=True)


def losses(rng):
    for name in fb.losses.LOSSES:
        loss = getattr(fb.losses, name)
        for width in (10, UNITS):
            out, target = rng.normal(size=(ROWS, width)).astype("f"), np.eye(width, dtype="f")[rng.integers(0, width, ROWS)]
            cases = {"rows": target[:, : width // 2].copy() if name == "gaussian_nll" else target}
            if name in ("cross_entropy", "hinge"):
                cases["labels"] = target.argmax(axis=1)
            for kind, t in cases.items():
                took = fastest(lambda loss=loss, out=out, t=t: loss(out, t)) / out.size
                print(f"{name:>20}, {width:3} columns, {kind:6} {took:6.2f}", flush=True)


def inputs(rng):
    x, y = rng.integers(0, 100, (32, COLUMNS)), rng.normal(size=(32, 8)).astype("f")
    net = network(COLUMNS, lambda h: h)
    alone = step_and_prediction(net, x.astype("f"), y)
    for name in TYPES:
        more = np.subtract(step_and_prediction(net, x.astype(name), y), alone) / x.size
        print(f"{name:>16}  step {more[0]:6.2f}  prediction {more[1]:6.2f}", flush=True)


def views():
    for workload in WORKLOADS[:-1]:
        case = problem(workload, fb)
        without = fastest(case.step)
        view = case.net.params
        print(f"{workload.name:>16}  step {100 * (fastest(case.step) / without - 1):+6.1f} %", flush=True)
        del view


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    fb.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(f"{fb.isa()}, one thread, float32; ns per element\n\nafter {UNITS} units, {ROWS} rows")
    gates(rng)
    print("\nlosses by themselves")
    losses(rng)
    print(f"\ninputs of another type, {COLUMNS} columns")
    inputs(rng)
    print("\na view of the parameters that is held")
    views()


if __name__ == "__main__":
    main()
