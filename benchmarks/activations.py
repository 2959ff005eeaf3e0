"""What the activations cost: cycles per element of each kernel, on a block that stays in L1.

tanh is O = f(Z), tanh' its way back from O; gelu+ leaves the slopes with O, and the way back is one product for all such.

A cycle is counted by what the core does in it, at the peak measured in the same process: two FMAs of 256 bits. (Of 512 bits,
some cores do one in a cycle, others two.)
"""

import argparse
import os
import time
from functools import partial

import numpy as np

from fastbp import _fastbp_core as core
from fastbp import runtime

BYTES = 32 << 10  # of what a kernel touches
ROUNDS, CALLS = 50, 300  # so many that the way into C is not counted


def nanoseconds(call, z, x):
    """One call of the kernel, in each round; z = x at first."""
    rounds = []
    for _ in range(ROUNDS):
        np.copyto(z, x)
        began = time.perf_counter_ns()
        call(z, calls=CALLS)
        rounds.append((time.perf_counter_ns() - began) / CALLS)
    return np.array(rounds)


def aligned(n, dtype):
    """A row of n elements that begins with a cache line, as the buffers of a plan do."""
    memory = np.empty(n * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n * np.dtype(dtype).itemsize].view(dtype).reshape(1, n)


def kernels(isa, o, slopes):
    """Names and calls."""
    calls = {}
    for number, name in enumerate(core.ACTIVATIONS):
        if name in ("identity", "custom"):
            continue
        calls[name] = partial(core.window_activation, isa, number)
        if core.window_row(number)[0]:
            calls[name + "+"] = partial(core.window_activation, isa, number, slopes=slopes)
        else:
            calls[name + "'"] = partial(core.window_activation, isa, number, o=o)
    return calls


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clock = "avx2" if "avx2" in runtime.isa_names() else runtime.isa_names()[0]  # what counts the cycles
    print(f"cycles per element, minimum and median of {ROUNDS} rounds")
    for dtype in ("float32", "float64"):
        a_cycle = 2 * 2 * core.window_tile(clock, dtype)[2]  # operations
        for isa in runtime.isa_names():
            most = BYTES // np.dtype(dtype).itemsize
            o, slopes = aligned(most // 2, dtype), aligned(most // 2, dtype)
            o[...] = np.linspace(0, 4, most // 2)
            for name, call in kernels(isa, o, slopes).items():
                n = most // 2 if name[-1] in "'+" else most  # these have an o, too
                rounds = nanoseconds(call, aligned(n, dtype), np.linspace(-4, 4, n, dtype=dtype).reshape(1, n))
                ghz = runtime.fma_peak(clock, dtype) / a_cycle * 1e-9
                cycles = rounds * ghz / n
                print(f"{dtype}  {isa:<7} {name:<14} {cycles.min():7.3f} {np.median(cycles):7.3f}   at {ghz:.2f} GHz")


if __name__ == "__main__":
    main()
