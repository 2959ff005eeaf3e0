"""Sums whose bits are the same on every machine: NumPy leaves the order of its additions to the build."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def folded_sum(terms: FloatArray) -> FloatArray:
    """Sum over the first axis: the upper half is added to the lower one, until one is left.

    An error of ceil(log2 n) roundings for n terms. In an odd number of terms the one in the middle waits.

    Parameters
    ----------
    terms : ndarray of float64, shape (n, ...)
        n at least 1. Overwritten, so that nothing is allocated.

    Returns
    -------
    ndarray of float64, shape (...)
        A view of ``terms[0]``; a number where `terms` is a vector.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.sums import folded_sum
    >>> float(folded_sum(np.array([1.0, 2.0, 3.0, 4.0, 5.0])))
    15.0
    """
    n = len(terms)
    while n > 1:
        half = (n + 1) // 2
        terms[: n - half] += terms[half:n]
        n = half
    first: FloatArray = terms[0]
    return first
