"""Arrays that end, or begin, at a page that cannot be touched; and every call of the library on such arrays.

Reading or writing one byte too many ends the process, so test_guard_pages.py runs this file in processes of its own:

    guard.py sweep DTYPE COLUMNS ROWS [all]     every call, for 1 .. COLUMNS columns, each with all of 1 .. ROWS rows
                                                or with one of them; FASTBP_ISA chooses the kernels
    guard.py fault end|start                    read one byte too far: what the sweep must be able to notice
"""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import mmap
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from cases import WITH_KERNELS, Array, assert_same_bits, integers, numbers

import fastbp as fb

PAGE = mmap.PAGESIZE
PROT_NONE = 0
WEIGHTS = numbers(100, 100, seed=7)
Place = Callable[[Array], Array]

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def guarded(array: Array, at_end: bool) -> Array:
    """A C-contiguous copy of `array` whose last byte lies before a forbidden page, or whose first byte behind one."""
    pages = -(-array.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        if libc.mprotect(address + page * PAGE, PAGE, PROT_NONE) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = (pages + 1) * PAGE - array.nbytes if at_end else PAGE
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def before_the_end(array: Array) -> Array:
    return guarded(array, at_end=True)


def behind_the_start(array: Array) -> Array:
    return guarded(array, at_end=False)


PLACES: tuple[Place, ...] = (before_the_end, behind_the_start)


@dataclass(frozen=True)
class Case:
    """Data of one size, and a way to place it."""

    dtype: str
    rows: int
    cols: int

    def net(
        self, inputs: int, units: int, activation: str = "identity", loss: str = "squared_error", hidden: int = 0
    ) -> fb.Sequential:
        widths = [inputs, *([hidden] if hidden else []), units]
        layers: list[fb.Input | fb.Dense] = [fb.Input(inputs)]
        for k, (i, u) in enumerate(itertools.pairwise(widths)):
            last = k == len(widths) - 2
            layers.append(fb.Dense(u, activation if last else "tanh", weight_init=WEIGHTS[:i, :u]))
        return fb.Sequential(layers, loss, fb.SGD(0.1, 0.9), dtype=self.dtype, seed=0)

    def everything(self, place: Place, target: str) -> Iterator[Array]:
        """Train, predict, go forward and back with x, targets, out and dout where `place` puts them."""
        rows, cols = self.rows, self.cols
        x = place(numbers(rows, cols, dtype=self.dtype))
        loss = "squared_error" if target == "values" else "cross_entropy"
        y = place(
            {
                "values": numbers(rows, cols, seed=1, dtype=self.dtype),
                "soft": np.abs(numbers(rows, cols, seed=1, dtype=self.dtype)),
                "labels": np.abs(integers(rows, most=cols - 1)),
                "bytes": np.abs(integers(rows, most=cols - 1)).astype(np.uint8),
            }[target]
        )
        net = self.net(cols, cols, loss=loss, hidden=5)
        yield np.float64(net.train_step(x, y))
        yield np.array(net.fit(x, y, epochs=2, batch_size=2).loss)
        out = place(np.zeros((rows, cols), self.dtype))
        yield net.predict(x, out=out)
        value, dout = getattr(fb.losses, loss)(out, y)
        yield np.float64(value)
        yield dout
        yield net.forward(x)
        dX = net.backward(place(dout), inputs=True)
        assert dX is not None
        yield dX
        net.update()
        yield net.params.copy()

    def losses(self, place: Place) -> Iterator[Array]:
        """Every loss of weighted rows."""
        weights = place(np.arange(1.0, self.rows + 1))
        for name, loss in fb.losses.LOSSES.items():
            width = 2 * self.cols if name == "gaussian_nll" else self.cols
            out = place(numbers(self.rows, width, dtype=self.dtype))
            target = place(np.abs(numbers(self.rows, self.cols, seed=1, dtype=self.dtype)))
            value, dout = loss()(out, target, sample_weight=weights)
            yield np.float64(value)
            yield dout

    def outputs(self, place: Place) -> Iterator[Array]:
        """Outputs of every activation, which `predict` writes where they belong; from inputs of other types, too."""
        for activation in WITH_KERNELS:
            x = numbers(self.rows, 3, dtype=self.dtype)
            out = place(np.zeros((self.rows, self.cols), self.dtype))
            yield self.net(3, self.cols, activation).predict(place(x), out=out)
        net = self.net(self.cols, 3)
        for other in ("float16", "float32", "float64", ">f4", ">f8", "int8", ">i2", "uint64", "bool"):
            x = (100 * numbers(self.rows, self.cols)).astype(other)
            yield net.predict(place(x))
            yield net.predict(place(x)[::-1, ::-1])
            yield net.predict(place(np.repeat(x, 2, axis=1))[:, 1::2])


def sweep(dtype: str, columns: int, most: int, every: bool) -> None:
    for cols in range(1, columns + 1):
        for rows in range(1, most + 1) if every else [1 + cols % most]:
            case = Case(dtype, rows, cols)
            for place in PLACES:
                for target in ("values", "soft", "labels", "bytes"):
                    print(f"{rows} rows, {cols} columns, {place.__name__}, {target}", flush=True)
                    agree(case.everything(place, target), case.everything(np.copy, target))
                print(f"{rows} rows, {cols} columns, {place.__name__}, outputs", flush=True)
                agree(case.outputs(place), case.outputs(np.copy))
                print(f"{rows} rows, {cols} columns, {place.__name__}, losses", flush=True)
                agree(case.losses(place), case.losses(np.copy))


def agree(got: Iterator[Array], wanted: Iterator[Array]) -> None:
    """The place of an array changes no bit of a result."""
    for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
        assert_same_bits(np.asarray(one), np.asarray(other), f"result {i}")


def fault(where: str) -> None:
    """Touch the byte after the end, or the one before the start."""
    at_end = where == "end"
    array = guarded(np.zeros(10, np.uint8), at_end)
    address = array.ctypes.data
    ctypes.string_at(address, 10)
    print("touching", flush=True)
    ctypes.string_at(address + 10 if at_end else address - 1, 1)


if __name__ == "__main__":
    faulthandler.enable()
    if sys.argv[1] == "sweep":
        sweep(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:] == ["all"])
    else:
        fault(sys.argv[2])
