"""Layers that bring rows or columns to a common scale: by themselves, by the batch, or by data seen before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, real_number, rows, small
from fastbp.reference.gate import Place
from fastbp.reference.layer import Layer, LiveView
from fastbp.reference.network import NOTHING
from fastbp.values import Value


class LayerNorm(Layer):
    """O = gain * (X - mean) / sqrt(var + eps) + shift, with the mean and the variance of each row.

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
    >>> import fastbp.reference as fb
    >>> net = fb.Sequential([fb.Input(4), fb.LayerNorm()], dtype="float64")
    >>> net.predict([[1, 2, 3, 4], [10, 20, 30, 40]]).round(2).tolist()
    [[-1.34, -0.45, 0.45, 1.34], [-1.34, -0.45, 0.45, 1.34]]
    """

    gain = LiveView()
    shift = LiveView()
    dgain = LiveView()
    dshift = LiveView()

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = small("eps", eps)

    def _gate(self, x: Value) -> Value:
        return Value("layer_norm", [x], settings=[self.eps], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Return W (2, U): gains of 1, shifts of 0."""
        return np.vstack([np.ones(inputs), np.zeros(inputs)]), NOTHING[1]

    def join(self, place: Place) -> None:
        """Live in this W (2, U) and dW."""
        super().join(place)
        self._gain, self._shift = place.W
        self._dgain, self._dshift = place.dW

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"LayerNorm(eps={self.eps!r})"


class RMSNorm(Layer):
    """O = gain * X / sqrt(mean X^2 + eps), with the mean of each row.

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
    >>> import fastbp.reference as fb
    >>> net = fb.Sequential([fb.Input(2), fb.RMSNorm()], dtype="float64")
    >>> net.predict([[3, 4], [30, 40]]).round(3).tolist()
    [[0.849, 1.131], [0.849, 1.131]]
    """

    gain = LiveView()
    dgain = LiveView()

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = small("eps", eps)

    def _gate(self, x: Value) -> Value:
        return Value("rms_norm", [x], settings=[self.eps], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Return W (1, U): gains of 1."""
        return np.ones((1, inputs)), NOTHING[1]

    def join(self, place: Place) -> None:
        """Live in this W (1, U) and dW."""
        super().join(place)
        self._gain, self._dgain = place.W[0], place.dW[0]

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"RMSNorm(eps={self.eps!r})"


class BatchNorm(LayerNorm):
    """O = gain * (X - mean) / sqrt(var + eps) + shift, by column: the mean and the variance of the batch in training.

    Training also moves running statistics, with which rows are predicted, each by itself; see `norm_gates.BatchNorm`. They
    are no parameters: those of a frozen layer move as well.

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
    >>> import fastbp.reference as fb
    >>> net = fb.Sequential([fb.Input(1), fb.BatchNorm()], dtype="float64")
    >>> net.forward([[1], [3]]).round(2).tolist()
    [[-1.0], [1.0]]
    >>> net.layers[1].running_mean.round(2).tolist(), net.layers[1].running_var.round(2).tolist()
    ([0.2], [1.1])
    """

    running_mean = LiveView()
    running_var = LiveView()

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(eps)
        if not 0.0 <= real_number("momentum", momentum) <= 1.0:
            raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
        self.momentum = float(momentum)

    def _gate(self, x: Value) -> Value:
        return Value("batch_norm", [x], settings=[self.eps, self.momentum], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Return W (2, U) as for `LayerNorm`, and the state (2, U): running means of 0, running variances of 1."""
        return super().initial(inputs, seed, step)[0], np.vstack([np.zeros(inputs), np.ones(inputs)])

    def join(self, place: Place) -> None:
        """Live in this W (2, U), dW and state (2, U)."""
        super().join(place)
        self._running_mean, self._running_var = place.state

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
    >>> import fastbp.reference as fb
    >>> scale = fb.Standardize()
    >>> scale.adapt([[1, 1000], [3, 3000]])
    >>> net = fb.Sequential([fb.Input(2), scale])
    >>> net.predict([[1, 1000], [3, 3000]]).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    mean = LiveView()
    deviation = LiveView()

    def adapt(self, X: npt.ArrayLike) -> None:
        """Learn the mean of every column and its deviation, sqrt(mean (X - mean)^2), both in float64; 0 becomes 1.

        It may be called before the layer is part of a network, or later, any number of times.

        Parameters
        ----------
        X : array-like, shape (n, U)
            What the layer will get: at least one row; finite.

        Raises
        ------
        ValueError, TypeError
            If X is not as above; the layer is then as before.
        """
        data = rows("X", X, self.inputs).astype(np.float64)
        if 0 in data.shape:
            raise ValueError(f"X must have at least one row and one column, got {data.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.clip(data.mean(axis=0), data.min(axis=0), data.max(axis=0))  # of a constant column nothing is left
            deviation = np.sqrt(np.square(data - mean).mean(axis=0))
        bad = np.flatnonzero(~np.isfinite(deviation))
        if bad.size:
            raise ValueError(f"X must be finite, and its squares too, got other numbers in column {bad[0]}")
        deviation[deviation == 0] = 1.0
        if hasattr(self, "_mean"):
            self.mean, self.deviation = mean, deviation
        else:
            self.inputs, self._mean, self._deviation = len(mean), mean, deviation

    def _gate(self, x: Value) -> Value:
        return Value("standardize", [x], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Return the state (2, U): what `adapt` left, or means of 0 and deviations of 1."""
        adapted = hasattr(self, "_mean")
        return NOTHING[0], np.vstack([self.mean, self.deviation] if adapted else [np.zeros(inputs), np.ones(inputs)])

    def join(self, place: Place) -> None:
        """Live in this state (2, U)."""
        super().join(place)
        self._mean, self._deviation = place.state

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return "Standardize()"
