"""Every form of the product on whole numbers: equal to the int64 result, without tolerance.

Sums of products of small integers are exact in floating point, in whatever order, as long as no partial sum reaches
2**(bits of the mantissa); `exact` asserts that of the data at hand. So a wrong or missing term, tail or epilogue
shows as a difference, however small its share.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from cases import DTYPES, ISAS, Array, around, integers

from fastbp import _fastbp_core as core

SIZES = 67  # largest size in each dimension: more than two tiles or panels of any instruction set
MOST = 9  # largest factor
ALPHA = -3
FORMS = {"forward": 0, "input_gradient": 1, "weight_gradient": 2}
EPILOGUES = ("store", "relu", "relu_grad", "tanh_grad", "sigmoid_grad", "slope_grad", "add", "axpy")  # enum fbp_epilogue
READS_C = ("add", "axpy")
EPILOGUES_OF = {form: EPILOGUES if form != "weight_gradient" else ("store", *READS_C) for form in FORMS}
SECONDS = ("", "sum", "sum_relu", "delta_relu")  # enum fbp_second
GUARD = 67  # elements before and after C that must stay as they are
COMBINATIONS = {form: list(itertools.product((0, 1), (False, True), EPILOGUES_OF[form])) for form in FORMS}  # packed, start given

TWO_TILES = list(itertools.product((0, 1), EPILOGUES[:6], SECONDS[1:], (False, True)))  # packed, ..., C2 in the place of C

A = integers(SIZES, SIZES, most=MOST, seed=1)
B = integers(SIZES, SIZES, most=MOST, seed=2)
START, C, O, X = (integers(SIZES, SIZES, most=MOST, seed=seed) for seed in (3, 4, 5, 6))

kernels = pytest.mark.parametrize(
    "isa, dtype", [pytest.param(isa, dtype, id=f"{isa}-{dtype}") for isa in ISAS for dtype in DTYPES]
)
forms = pytest.mark.parametrize("form", FORMS)


def block(array: Array, rows: int, cols: int) -> Array:
    if rows > SIZES or cols > SIZES:
        return np.resize(array, (rows, cols))
    return np.ascontiguousarray(array[:rows, :cols])


def exact(dtype: str, k: int) -> None:
    """The largest value that can appear is an integer the dtype holds, and so are all below it."""
    largest = (MOST * MOST + MOST) * (k * MOST * MOST + MOST) + MOST
    assert largest < 2 ** (np.finfo(dtype).nmant + 1)


def wanted(epilogue: str, S: Array, c: Array, o: Array) -> Array:
    match epilogue:
        case "store":
            return S
        case "relu":
            return np.maximum(S, 0)
        case "relu_grad":
            return S * (o > 0)
        case "tanh_grad":
            return S * (1 + o) * (1 - o)
        case "sigmoid_grad":
            return S * o * (1 - o)
        case "slope_grad":
            return S * o
        case "add":
            return c + S
        case "axpy":
            return c + ALPHA * S
    raise AssertionError(epilogue)


def check(isa: str, dtype: str, form: str, sizes: tuple[int, int, int], combination: tuple[int, bool, str]) -> None:
    (m, n, k), (packed, start_given, epilogue) = sizes, combination
    exact(dtype, k)
    a = block(A, k, m) if form == "weight_gradient" else block(A, m, k)
    b = block(B, n, k) if form == "input_gradient" else block(B, k, n)
    c, o, start = block(C, m, n), block(O, m, n), block(START, m, n) if start_given else None
    S = (a.T if form == "weight_gradient" else a) @ (b.T if form == "input_gradient" else b)
    if start is not None:
        S = S + start
    memory = np.full(2 * GUARD + m * n, np.nan, dtype)
    result = memory[GUARD : GUARD + m * n].reshape(m, n)  # GUARD is odd: not aligned to a register
    result[...] = c
    fa, fb, fo = (array.astype(dtype) for array in (a, b, o))
    core.window_gemm(
        isa,
        FORMS[form],
        packed,
        fa,
        fb,
        None if start is None else start.astype(dtype),
        result,
        EPILOGUES.index(epilogue),
        ALPHA,
        fo,
    )
    case = f"m, n, k = {sizes}, packed={packed}, start={start_given}, {epilogue}"
    np.testing.assert_array_equal(result, wanted(epilogue, S, c, o).astype(dtype), case, strict=True)
    assert np.isnan(memory[:GUARD]).all() and np.isnan(memory[-GUARD:]).all(), f"wrote outside C: {case}"


def check_all(isa: str, dtype: str, form: str, cases: Iterable[tuple[int, int, int]]) -> None:
    for sizes, combination in zip(cases, itertools.cycle(COMBINATIONS[form])):
        check(isa, dtype, form, sizes, combination)


def sample(isa: str, dtype: str) -> list[tuple[int, int, int]]:
    """Every size in each dimension, and every tile edge in m with every one in n; the other sizes go round."""
    mr, nr, lanes = core.window_tile(isa, dtype)
    every = range(1, SIZES + 1)
    others = (5, 13, 34, 1, 66, 29, 2, 21, 8, 47, 3)  # eleven: shares no factor with the number of combinations
    turn = itertools.cycle(others)
    cases = [(s, next(turn), next(turn)) for s in every]
    cases += [(next(turn), s, next(turn)) for s in every]
    cases += [(next(turn), next(turn), s) for s in every]
    return cases + [(m, n, next(turn)) for m in around(mr, most=SIZES) for n in around(nr, lanes, most=SIZES)]


@forms
@kernels
def test_product_equals_the_integer_product(isa: str, dtype: str, form: str) -> None:
    check_all(isa, dtype, form, sample(isa, dtype))


@forms
@kernels
def test_every_combination_at_the_edges_of_a_tile(isa: str, dtype: str, form: str) -> None:
    mr, nr, lanes = core.window_tile(isa, dtype)
    for sizes in ((1, 1, 1), (mr + 1, nr + 1, 3), (mr, nr, 1), (2 * mr - 1, nr - lanes, SIZES), (SIZES, SIZES, SIZES)):
        for combination in COMBINATIONS[form]:
            check(isa, dtype, form, sizes, combination)


STRIP = 1024  # steps of k, of one panel, or fewer of several, that are in work at a time: KC in gemm.h
FEW_ROWS = 16  # by which B^T is taken panel by panel, where it is as large as IN_L2
IN_L1, IN_L2 = 32 << 10, 512 << 10  # bytes of B or C from which several panels are taken, and from which they are asked for early
STRIP_IN_L1 = 128 << 10  # where B is transposed: in place of IN_L1


def large(isa: str, dtype: str) -> list[tuple[int, int, int]]:
    """Products beyond the limits of gemm.h: bytes of C, bytes of B, steps of k; whole and broken panels, one and two strips."""
    mr, nr, lanes = core.window_tile(isa, dtype)
    size = np.dtype(dtype).itemsize
    rows = 5 * mr + 1
    cases = []
    for bytes_of_it in (IN_L1, STRIP_IN_L1):
        first = bytes_of_it // (rows * size) // nr * nr  # columns of whole panels that are still taken one by one
        cases += [(rows, n, 7) for n in (first, first + 1, first + nr, first + nr + lanes, first + 2 * nr + lanes // 4)]
    cases += [(rows, n, k) for k in (3, lanes + 1) for n in around(STRIP // (-(-k // lanes) * lanes) * nr, most=7000)[2:-1:2]]
    cases += [(mr + 1, 2 * nr + 3, k) for k in around(STRIP, STRIP // 2, STRIP // 3, most=2 * STRIP + 1)]
    for n in (7 * nr, 230):  # as many rows of C, or of B, as fit, and one more
        fit = IN_L2 // (n * size)
        cases += [(m, n, 11) for m in (fit, fit + 1)]
        cases += [(m, n, k) for k in (fit, fit + 1) for m in (1, mr, mr + 1, 2 * mr + 3) if k <= 2 * STRIP]
    assert max(k * n for _, n, k in cases) * size > IN_L2 < max(m * n for m, n, _ in cases) * size
    return cases


@forms
@kernels
def test_strips_and_what_is_asked_for_early(isa: str, dtype: str, form: str) -> None:
    """Chains of a product by rows that stop after KC steps wait in C, which ADD and AXPY would need: the plan has none."""
    for sizes, combination in zip(large(isa, dtype), itertools.cycle(COMBINATIONS[form])):
        few = form == "input_gradient" and sizes[0] <= FEW_ROWS and sizes[1] * sizes[2] * np.dtype(dtype).itemsize > IN_L2
        if form == "weight_gradient" or combination[2] not in READS_C or (sizes[2] <= STRIP and not few):
            check(isa, dtype, form, sizes, combination)


@kernels
def test_the_gradient_of_few_rows(isa: str, dtype: str) -> None:
    """By W from beyond L2, panel by panel: chains wait in C for each."""
    _, nr, lanes = core.window_tile(isa, dtype)
    k = 11 * nr
    n = IN_L2 // (k * np.dtype(dtype).itemsize) + 1
    stored = [combination for combination in COMBINATIONS["input_gradient"] if combination[2] not in READS_C]
    rows, more_n, more_k = (1, 3, FEW_ROWS, FEW_ROWS + 1), (0, nr - n % nr, 5), (0, 1, lanes, nr - 1)
    cases = [(m, n + j, k + i) for m, j, i in itertools.product(rows, more_n, more_k)]
    for sizes, combination in zip([*cases, (2, n, k)], itertools.cycle(stored)):
        check(isa, dtype, "input_gradient", sizes, combination)
    for combination in TWO_TILES:
        check_two(isa, dtype, "input_gradient", (4, n, k + 3), combination)


@kernels
def test_the_gradient_of_few_rows_by_its_transpose(isa: str, dtype: str) -> None:
    """Where A and C are well below B: whole and broken registers of rows, pieces of columns, panels and strips of steps."""
    mr, nr, lanes = core.window_tile(isa, dtype)
    piece = 16 * mr  # columns in work at a time: TURN_COLS in turned.h
    columns = (3 * mr, 3 * mr + 1, 5 * nr, piece - 1, piece, piece + 1, piece + 3 * mr - 1, piece + 3 * mr, 2 * piece + 5)
    steps = (5 * nr, 5 * nr + 1, 6 * nr + 3, 7 * nr - 1, STRIP - nr, STRIP, STRIP + 1, STRIP + 2, STRIP + nr + 3, 2 * STRIP)
    rows = (lanes, nr - lanes // 4, nr, nr - 1, nr + lanes, 2 * nr - 1, 3 * nr)
    combinations = itertools.cycle(COMBINATIONS["input_gradient"])
    tried = 0
    for m, n, k in itertools.product(rows, columns, steps):
        if 2 * m * (n + k) <= n * k:
            tried += 1
            waits = k > STRIP or (m <= FEW_ROWS and n * k * np.dtype(dtype).itemsize > IN_L2)  # in C, unless it is turned
            combination = next(combination for combination in combinations if not waits or combination[2] not in READS_C)
            check(isa, dtype, "input_gradient", (m, n, k), combination)
    assert tried > 100
    for combination in COMBINATIONS["input_gradient"]:
        check(isa, dtype, "input_gradient", (nr + lanes, 7 * nr + 1, 7 * nr + 3), combination)
    for rows_of_it in (lanes, 2 * nr - lanes // 4):
        for combination in TWO_TILES:
            check_two(isa, dtype, "input_gradient", (rows_of_it, 9 * nr + 5, 9 * nr + 1), combination)


@pytest.mark.full
@forms
@kernels
def test_every_size(isa: str, dtype: str, form: str) -> None:
    every = range(1, SIZES + 1)
    check_all(isa, dtype, form, itertools.product(every, every, every))


def check_two(isa: str, dtype: str, form: str, sizes: tuple[int, int, int], combination: tuple[int, str, str, bool]) -> None:
    """C, and what is made of it while it is in registers."""
    (m, n, k), (packed, epilogue, second, in_place) = sizes, combination
    exact(dtype, k)
    a, o, x = block(A, m, k), block(O, m, n), block(X, m, n)
    b = block(B, n, k) if form == "input_gradient" else block(B, k, n)
    S = wanted(epilogue, a @ (b.T if form == "input_gradient" else b), o, o)
    S2 = {"sum": S + x, "sum_relu": np.maximum(S + x, 0), "delta_relu": S * (x > 0)}[second]
    memory = np.full(3 * GUARD + 2 * m * n, np.nan, dtype)
    c = memory[GUARD : GUARD + m * n].reshape(m, n)
    c2 = memory[2 * GUARD + m * n : -GUARD].reshape(m, n)
    fa, fb, fo, fx = (array.astype(dtype) for array in (a, b, o, x))
    numbers = (EPILOGUES.index(epilogue), ALPHA, fo, SECONDS.index(second), fx, c if in_place else c2)
    core.window_gemm(isa, FORMS[form], packed, fa, fb, None, c, *numbers)
    case = f"m, n, k = {sizes}, packed={packed}, {epilogue}, {second}, in place={in_place}"
    np.testing.assert_array_equal(c, S2 if in_place else S, case)
    if not in_place:
        np.testing.assert_array_equal(c2, S2, case)
    written = m * n * (1 if in_place else 2)
    assert np.isfinite(memory).sum() == written, f"wrote outside: {case}"


@pytest.mark.parametrize("form", list(FORMS)[:2])
@kernels
def test_two_tiles_of_one_product(isa: str, dtype: str, form: str) -> None:
    for sizes, combination in zip(sample(isa, dtype), itertools.cycle(TWO_TILES)):
        check_two(isa, dtype, form, sizes, combination)
    mr, nr, lanes = core.window_tile(isa, dtype)
    for sizes in ((1, 1, 1), (2, 2 * nr + 1, 5), (mr + 1, nr + 1, 3), (2 * mr - 1, nr - lanes, SIZES), (SIZES, SIZES, SIZES)):
        for combination in TWO_TILES:
            check_two(isa, dtype, form, sizes, combination)


@forms
@kernels
def test_empty_sum_is_the_start(isa: str, dtype: str, form: str) -> None:
    start = block(START, 5, 7).astype(dtype)
    shape_a, shape_b = ((0, 5), (0, 7)) if form == "weight_gradient" else ((5, 0), (0, 7))
    if form == "input_gradient":
        shape_b = (7, 0)
    c = np.full((5, 7), np.nan, dtype)
    core.window_gemm(isa, FORMS[form], 0, np.empty(shape_a, dtype), np.empty(shape_b, dtype), start, c)
    np.testing.assert_array_equal(c, start)


@pytest.mark.parametrize("form, epilogue", [(form, epilogue) for form in FORMS for epilogue in EPILOGUES_OF[form]])
@kernels
def test_no_zero_factor_is_skipped(isa: str, dtype: str, form: str, epilogue: str) -> None:
    """0 NaN is NaN, and stays NaN through every epilogue."""
    m, n, k = 7, 19, 5
    a = np.zeros((k, m) if form == "weight_gradient" else (m, k), dtype)
    b = np.full((n, k) if form == "input_gradient" else (k, n), np.nan, dtype)
    c, o = np.zeros((m, n), dtype), np.zeros((m, n), dtype)
    core.window_gemm(isa, FORMS[form], 0, a, b, None, c, EPILOGUES.index(epilogue), ALPHA, o)
    assert np.isnan(c).all()


@kernels
def test_column_sums_equal_the_integer_sums(isa: str, dtype: str) -> None:
    _, nr, lanes = core.window_tile(isa, dtype)
    heights = [0, 1, 2, 3, 31, SIZES]
    wide = sorted({*range(1, SIZES + 1), *around(4 * lanes, nr, most=5 * nr)})  # it takes four registers at a time
    for k, n in itertools.product(heights, wide):
        b = np.resize(B, (k, n))
        memory = np.full(2 * GUARD + n, np.nan, dtype)
        out = memory[GUARD : GUARD + n].reshape(1, n)
        core.window_col_sums(isa, b.astype(dtype), out)
        np.testing.assert_array_equal(out[0], b.sum(axis=0), f"k, n = {k}, {n}")
        assert np.isnan(memory[:GUARD]).all() and np.isnan(memory[-GUARD:]).all(), f"wrote outside: k, n = {k}, {n}"
    exact(dtype, max(heights))
