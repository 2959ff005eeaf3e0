"""Central differences, extrapolated, in steps that cross no kink and are large against rounding errors.

With a step h, D(h) = (E(t + h) - E(t - h)) / (2h) = E' + c2 h^2 + c4 h^4 + ..., so that of rows of steps h, h/2, h/4, ...

    T_k0 = D(h / 2^k),    T_kj = T_k(j-1) + (T_k(j-1) - T_(k-1)(j-1)) / (4^j - 1)

the last of each row, T_kk, errs by terms of h^(2k+2) [1]_; T_kk - T_(k-1)(k-1) says by how much at most. Rows are added until
that is small against what is asked for, or against the rounding errors of E, of which a difference over h has noise / h.

References
----------
.. [1] C. J. F. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering Software 4 (2), 75-76, 1982.
.. [2] J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33 (3), 1292-1314, 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastbp.checks import Array

Function = Callable[[float], tuple[float, bytes]]  # t -> E, and the side of each unit
EPS = float(np.finfo(np.float64).eps)
DEVIATIONS = 8  # of 10^5 errors none is expected beyond 5; extrapolation makes them up to 1.6 times as large
ROWS = 5
FIRST = 2.0**-3  # first step, in parts of the size of the numbers it is added to
SMALLEST = 2.0**-27  # steps are not made smaller, in parts of the first
SHRINK = 8.0  # after a step that crosses a kink, or rows that do not settle


@dataclass(frozen=True)
class Difference:
    """A derivative by differences.

    Attributes
    ----------
    value : float
        NaN if no step gave a number.
    step : float
        The smallest step it was taken from.
    error : float
        By how much it may be wrong, rounding errors of E aside.
    kink : bool
        Whether every step that was large enough crossed a kink: there is no value then.
    """

    value: float
    step: float
    error: float = 0.0
    kink: bool = False


def derivative(
    E: Function, at: float, sides: bytes, first: float, least: float, noise: float, tolerance: float
) -> Difference:
    """Differentiate E at a point, where units have these `sides`, by steps from `first` down to `least`.

    The result is to be right to a share `tolerance` of itself, or as right as rounding allows. Where steps cross no kink, but E
    changes too much within them, they go on down to `SMALLEST` times the first.
    """
    best, crossed = Difference(math.nan, math.inf, math.inf), False
    h = first
    while (least if math.isnan(best.value) else SMALLEST * first) <= h < math.inf:
        above: list[float] = []
        for k in range(ROWS):
            step = h / 2**k
            D = _central(E, at, step, sides)
            if D is None:
                crossed = True
                break
            row = [D]
            for j, before in enumerate(above):
                row.append(row[j] + (row[j] - before) / (4 ** (j + 1) - 1))
            if above and abs(row[-1] - above[-1]) < best.error:
                best = Difference(row[-1], step, abs(row[-1] - above[-1]))
            if best.error <= max(tolerance * abs(best.value), noise / step):
                return best
            above = row
        h /= SHRINK
    return Difference(math.nan, math.inf, kink=True) if crossed and math.isnan(best.value) else best


def _central(E: Function, at: float, step: float, sides: bytes) -> float | None:
    """Return D(step), or None if it crosses a kink; the step is taken as it was rounded."""
    up, down = at + step, at - step
    E_up, sides_up = E(up)
    if sides_up != sides:
        return None
    E_down, sides_down = E(down)
    return None if sides_down != sides else (E_up - E_down) / (up - down)


def noise_of(values: Sequence[float]) -> float:
    """Bound the rounding errors of E from values of it at points in a row, a hair apart.

    What is smooth in them vanishes from differences of high order; of errors with standard deviation s, a difference of order
    k has s sqrt((2k)! / k!^2) [2]_. `DEVIATIONS` of them, and never less than one rounding of E.
    """
    rows: Array = np.asarray(values)
    found = []
    for k in range(1, len(values) - 2):
        rows = np.diff(rows)
        found.append(math.sqrt(float(np.mean(rows**2)) * math.factorial(k) ** 2 / math.factorial(2 * k)))
    return max(DEVIATIONS * max(found[2:]), EPS * float(np.abs(values).max()))
