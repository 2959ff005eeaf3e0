"""Layers that bring rows or columns to a common scale: by themselves, by the batch, or by data seen once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, real_number, rows, small
from fastbp.layer_base import Layer, View
from fastbp.values import Value

ADAPT_ROWS = 4096  # read at a time by `adapt`: the memory needed does not grow with the data


class LayerNorm(Layer):
    """O = gain * (X - mean) / sqrt(var + eps) + shift, with the mean and the variance of each row.

    With N = (X - mean) / s, s = sqrt(var + eps), and dN = dO * gain:

        dX     (m, U) = (dN - mean(dN) - N mean(dN * N)) / s, means by row
        dgain  (U,)   = sum dO * N, sums by column
        dshift (U,)   = sum dO

    Parameters
    ----------
    eps : float
        0 < eps < 1, added to the variance, which is the mean of (X - mean)^2.

    Attributes
    ----------
    gain, dgain, shift, dshift : ndarray, shape (U,)
        Live views; gains begin at 1, shifts at 0.

    Raises
    ------
    ValueError, TypeError
        If eps is not as above.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", arXiv:1607.06450, 2016.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Input(4), fb.LayerNorm()], dtype="float64")
    >>> net.predict([[1, 2, 3, 4], [10, 20, 30, 40]]).round(2).tolist()
    [[-1.34, -0.45, 0.45, 1.34], [-1.34, -0.45, 0.45, 1.34]]
    """

    gain = View("params", "Gain (U,), a live view.")
    shift = View("params", "Shift (U,), a live view.")
    dgain = View("grads", "dE/dgain (U,), a live view, filled by `backward`.", "gain")
    dshift = View("grads", "dE/dshift (U,), a live view, filled by `backward`.", "shift")

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = small("eps", eps)

    def _gate(self, x: Value) -> Value:
        return Value("layer_norm", [x], settings=[self.eps], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> dict[str, Array]:
        """Return gains of 1 and shifts of 0."""
        return {"gain": np.ones(inputs), "shift": np.zeros(inputs)}

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"LayerNorm(eps={self.eps!r})"


class RMSNorm(Layer):
    """O = gain * X / sqrt(mean X^2 + eps), with the mean of each row.

    With N = X / s, s = sqrt(mean X^2 + eps), and dN = dO * gain:

        dX    (m, U) = (dN - N mean(dN * N)) / s, means by row
        dgain (U,)   = sum dO * N, sums by column

    Parameters
    ----------
    eps : float
        0 < eps < 1.

    Attributes
    ----------
    gain, dgain : ndarray, shape (U,)
        Live views; gains begin at 1.

    Raises
    ------
    ValueError, TypeError
        If eps is not as above.

    References
    ----------
    B. Zhang and R. Sennrich, "Root mean square layer normalization", NeurIPS 2019.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Input(2), fb.RMSNorm()], dtype="float64")
    >>> net.predict([[3, 4], [30, 40]]).round(2).tolist()
    [[0.85, 1.13], [0.85, 1.13]]
    """

    gain = View("params", "Gain (U,), a live view.")
    dgain = View("grads", "dE/dgain (U,), a live view, filled by `backward`.", "gain")

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = small("eps", eps)

    def _gate(self, x: Value) -> Value:
        return Value("rms_norm", [x], settings=[self.eps], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> dict[str, Array]:
        """Return gains of 1."""
        return {"gain": np.ones(inputs)}

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"RMSNorm(eps={self.eps!r})"


class BatchNorm(Layer):
    """O = gain * (X - mean) / sqrt(var + eps) + shift, by column: the mean and the variance of the batch in training.

    Training also moves running statistics, with which rows are predicted, each by itself:

        running_mean = (1 - momentum) running_mean + momentum mean
        running_var  = (1 - momentum) running_var  + momentum m / (m - 1) var

    so the running variance is the unbiased one, and the one that normalises a batch of m rows the biased one, as in PyTorch.

    Parameters
    ----------
    momentum : float
        0 <= momentum <= 1: what a batch gives to the running statistics.
    eps : float
        0 < eps < 1, added to the variance.

    Attributes
    ----------
    gain, dgain, shift, dshift : ndarray, shape (U,)
        Live views; gains begin at 1, shifts at 0.
    running_mean, running_var : ndarray, shape (U,)
        Live views; they begin at 0 and 1.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as above.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", ICML 2015.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Input(1), fb.BatchNorm()], dtype="float64")
    >>> net.forward([[1], [3]]).round(2).tolist()
    [[-1.0], [1.0]]
    >>> net.layers[1].running_mean.round(2).tolist(), net.layers[1].running_var.round(2).tolist()
    ([0.2], [1.1])
    """

    gain = View("params", "Gain (U,), a live view.")
    shift = View("params", "Shift (U,), a live view.")
    dgain = View("grads", "dE/dgain (U,), a live view, filled by `backward`.", "gain")
    dshift = View("grads", "dE/dshift (U,), a live view, filled by `backward`.", "shift")
    running_mean = View("state", "Running mean (U,), a live view, moved by training.")
    running_var = View("state", "Running unbiased variance (U,), a live view, moved by training.")

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        if not 0.0 <= real_number("momentum", momentum) <= 1.0:
            raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
        self.momentum = float(momentum)
        self.eps = small("eps", eps)

    def _gate(self, x: Value) -> Value:
        return Value("batch_norm", [x], settings=[self.eps, self.momentum], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> dict[str, Array]:
        """Return gains of 1, shifts of 0, running means of 0 and running variances of 1."""
        ones, zeros = np.ones(inputs), np.zeros(inputs)
        return {"gain": ones, "shift": zeros, "running_mean": zeros, "running_var": ones}

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"BatchNorm(momentum={self.momentum!r}, eps={self.eps!r})"


class Standardize(Layer):
    """O = (X - mean) / deviation, by column, with the mean and the standard deviation of data that `adapt` was given.

    Both are stored in the network, and training leaves them alone. Without `adapt` they are 0 and 1.

    Attributes
    ----------
    mean, deviation : ndarray, shape (U,)
        Live views once the layer is part of a network.

    Examples
    --------
    >>> import fastbp as fb
    >>> scale = fb.Standardize()
    >>> scale.adapt([[1, 1000], [3, 3000]])
    >>> net = fb.Sequential([fb.Input(2), scale])
    >>> net.predict([[1, 1000], [3, 3000]]).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    mean = View("state", "Mean (U,), a live view.")
    deviation = View("state", "Standard deviation (U,), a live view.")

    def __init__(self) -> None:
        super().__init__()
        self._adapted: dict[str, Array] = {}  # what waits for a network

    def adapt(self, X: npt.ArrayLike) -> None:
        """Learn the mean and the standard deviation of every column; a deviation of 0 becomes 1.

        The deviation is sqrt(mean (X - mean)^2). Both are computed in float64, block by block, whatever the dtype of X. It
        may be called before the layer is part of a network, or later, any number of times.

        Parameters
        ----------
        X : array-like, shape (n, U)
            What the layer will get: at least one row; finite.

        Raises
        ------
        ValueError, TypeError
            If X is not as above; the layer is then as before.
        """
        data = rows("X", X, self.inputs)
        if 0 in data.shape:
            raise ValueError(f"X must have at least one row and one column, got {data.shape}")
        mean, deviation = _moments(data)
        bad = np.flatnonzero(~np.isfinite(deviation))
        if bad.size:
            raise ValueError(f"X must be finite, and its squares too, got other numbers in column {bad[0]}")
        if self._plan is None:
            self.inputs, self._adapted = data.shape[1], {"mean": mean, "deviation": deviation}
        else:
            self.mean, self.deviation = mean, deviation

    def part(self, name: str, vector: str) -> Array:
        """Return a live view, or before there is a network what `adapt` left."""
        return self._adapted[name] if self._plan is None and name in self._adapted else super().part(name, vector)

    def _gate(self, x: Value) -> Value:
        return Value("standardize", [x], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> dict[str, Array]:
        """Return what `adapt` left, or means of 0 and deviations of 1."""
        return self._adapted or {"mean": np.zeros(inputs), "deviation": np.ones(inputs)}

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return "Standardize()"


def _moments(data: npt.NDArray[np.generic]) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of every column; the deviation of a column that is constant is 1."""
    low = np.min([part.min(axis=0) for part in _blocks(data)], axis=0)
    high = np.max([part.max(axis=0) for part in _blocks(data)], axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.sum([part.sum(axis=0) for part in _blocks(data)], axis=0) / len(data)
        mean = np.clip(mean, low, high)  # so that of a constant column nothing is left
        variance = np.sum([np.square(part - mean).sum(axis=0) for part in _blocks(data)], axis=0) / len(data)
    return mean, np.sqrt(np.where(variance == 0, 1.0, variance))


def _blocks(data: npt.NDArray[np.generic]) -> Iterator[Array]:
    """Yield the rows in float64, some at a time."""
    for start in range(0, len(data), ADAPT_ROWS):
        yield data[start : start + ADAPT_ROWS].astype(np.float64)
