"""Initial weights: a table of named rules, and `initialize`, which also accepts values and functions.

Every rule draws in float64 from the counter-based generator of `fastbp.rng` (stream `STREAM_INIT`), so the
initial weights of a layer depend on (seed, step, shape) alone; the caller rounds them to its own dtype. Only
operations that IEEE 754 fixes are used, in a fixed order: the same bits on every machine.

A rule is a function of (shape, seed, step), and any such function of your own can stand where a name can.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastbp.rng import STREAM_INIT, FloatArray, normal, uniform
from fastbp.rng import truncated_normal as cut_normal
from fastbp.sums import folded_sum

Shape = tuple[int, ...]
Rule = Callable[[Shape, int, int], FloatArray]
Init = str | npt.ArrayLike | Callable[[Shape, int, int], npt.ArrayLike]

COLUMNS = 64  # of an orthogonal matrix, made at a time: they stay in cache while all reflections pass over them


def glorot_uniform(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ U[-a, a), a = sqrt(6 / (inputs + units)), so that Var W = 2 / (inputs + units) [1]_.

    Keeps the variance of signals and gradients level through layers that are linear around 0 (tanh, sigmoid).

    References
    ----------
    .. [1] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
       AISTATS 2010.
    """
    inputs, units = _matrix(shape)
    return _uniform(math.sqrt(6.0 / (inputs + units)), shape, seed, step)


def glorot_normal(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ N(0, 2 / (inputs + units)); see `glorot_uniform`."""
    inputs, units = _matrix(shape)
    return _normal(math.sqrt(2.0 / (inputs + units)), shape, seed, step)


def he_uniform(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ U[-a, a), a = sqrt(6 / inputs), so that Var W = 2 / inputs [1]_.

    The 2 makes up for relu, which silences half of its inputs.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015.
    """
    inputs, _ = _matrix(shape)
    return _uniform(math.sqrt(6.0 / inputs), shape, seed, step)


def he_normal(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ N(0, 2 / inputs); see `he_uniform`."""
    inputs, _ = _matrix(shape)
    return _normal(math.sqrt(2.0 / inputs), shape, seed, step)


def lecun_uniform(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ U[-a, a), a = sqrt(3 / inputs), so that Var W = 1 / inputs [1]_.

    Sums of inputs of variance 1 then have variance 1 as well: right for linear layers and for selu.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, G. B. Orr, K.-R. Mueller, "Efficient backprop", in: Neural networks: tricks of
       the trade, Springer, 1998.
    """
    inputs, _ = _matrix(shape)
    return _uniform(math.sqrt(3.0 / inputs), shape, seed, step)


def lecun_normal(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ N(0, 1 / inputs); see `lecun_uniform`."""
    inputs, _ = _matrix(shape)
    return _normal(math.sqrt(1.0 / inputs), shape, seed, step)


def truncated_normal(shape: Shape, seed: int, step: int, deviation: float = 0.02) -> FloatArray:
    """W ~ N(0, deviation^2), given that |W| <= 2 deviation.

    `deviation` is that of the distribution before it is cut, as in Keras (where it is 0.05 unless said
    otherwise) and JAX (0.01); what is left has 0.88 of it. 0.02 is what BERT, GPT-2 and most transformers after
    them begin with; ``functools.partial(truncated_normal, deviation=0.05)`` is another rule. PyTorch's
    ``trunc_normal_`` cuts at -2 and 2 instead, which with so small a deviation means not at all.
    """
    return (deviation * cut_normal(seed, STREAM_INIT, step, math.prod(shape))).reshape(shape)


def orthogonal(shape: Shape, seed: int, step: int) -> FloatArray:
    """W^T W = 1 where there are no more units than inputs, else W W^T = 1; all such W alike [1]_.

    Signals, or error signals, keep their length through the layer. W is the Q of the QR decomposition, with a
    positive diagonal of R, of a matrix of normal numbers; that matrix need not be reduced: its columns below
    the diagonal, x_k, give at once the reflections that would do it [2]_:

        v_k = x_k + sign(x_k1) |x_k| e_1,  H_k = 1 - 2 v_k v_k^T / |v_k|^2,  Q = H_1 H_2 ... H_n diag(-sign(x_k1))

    References
    ----------
    .. [1] A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in
       deep linear neural networks", ICLR 2014.
    .. [2] G. W. Stewart, "The efficient generation of random orthogonal matrices with an application to
       condition estimators", SIAM Journal on Numerical Analysis 17 (3), 403-409, 1980.
    """
    inputs, units = _matrix(shape)
    m, n = max(shape), min(shape)
    G = normal(seed, STREAM_INIT, step, m * n).reshape(m, n)
    vectors, factors, signs = np.empty((n, m)), np.empty(n), np.empty(n)
    for k in range(n):
        x = G[k:, k].copy()  # never 0: no normal number is
        length = math.sqrt(folded_sum(x * x))
        signs[k] = math.copysign(1.0, x[0])
        x[0] += signs[k] * length
        factors[k] = 2.0 / folded_sum(x * x)
        vectors[k, k:] = x
    Q = np.eye(m, n)
    for start in range(0, n, COLUMNS):
        part = Q[:, start : start + COLUMNS].copy()
        terms = np.empty_like(part)
        for k in range(min(start + COLUMNS, n) - 1, -1, -1):  # H_k leaves the rows above k alone, and columns before it
            v, below = vectors[k, k:, None], part[k:]
            products = np.multiply(v, below, out=terms[k:])
            below -= np.multiply(v, factors[k] * folded_sum(products), out=products)
        Q[:, start : start + COLUMNS] = part * -signs[start : start + COLUMNS]
    return Q if inputs >= units else np.ascontiguousarray(Q.T)


def torch_linear(shape: Shape, seed: int, step: int, inputs: int | None = None) -> FloatArray:
    """W and b ~ U[-a, a), a = 1 / sqrt(inputs): how PyTorch's nn.Linear begins (with other numbers).

    A bias, of shape (units,), needs `inputs`, and takes the numbers of the row that follows the weights.
    """
    if len(shape) == 1 and inputs is not None:
        u = uniform(seed, STREAM_INIT, step, shape[0], first=inputs * shape[0])
        bias: FloatArray = math.sqrt(1.0 / inputs) * (2.0 * u - 1.0)
        return bias
    inputs, _ = _matrix(shape)
    return _uniform(math.sqrt(1.0 / inputs), shape, seed, step)


def zeros(shape: Shape, seed: int, step: int) -> FloatArray:
    """W = 0. Right for biases; as weights it would make all units of a layer learn the same thing."""
    return np.zeros(shape)


def ones(shape: Shape, seed: int, step: int) -> FloatArray:
    """W = 1."""
    return np.ones(shape)


INITIALIZERS: dict[str, Rule] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "truncated_normal": truncated_normal,
    "orthogonal": orthogonal,
    "torch_linear": torch_linear,
    "zeros": zeros,
    "ones": ones,
}
OF_BIASES = ("zeros", "ones", "torch_linear")  # the others tell inputs from units


def initialize(
    init: Init, shape: Shape, *, seed: int, step: int, inputs: int | None = None, name: str = "weight_init"
) -> FloatArray:
    """Return the initial values of a weight matrix or a bias vector.

    Parameters
    ----------
    init : str, float, array-like of shape `shape`, or callable
        A name from `INITIALIZERS`; one number for all; the values themselves; or a function init(shape, seed,
        step) that returns the values, as those of this module do. Values are real and finite.
    shape : tuple of int
        (inputs, units) for weights, (units,) for a bias, which takes the names "zeros", "ones" and "torch_linear".
    seed, step : int
        Key of the random numbers; of a random rule, element ``W[i, j]`` uses number ``i * units + j``.
    inputs : int, optional
        Of the layer a bias belongs to: "torch_linear" needs it.
    name : str
        How error messages call `init`.

    Returns
    -------
    ndarray of float64, shape `shape`
        A new array, never a view of `init`.

    Raises
    ------
    ValueError
        Unknown name, a rule that is not for a bias, wrong shape, or values that are not finite.
    TypeError
        Neither a name nor real numbers nor a function that returns some.

    Examples
    --------
    >>> from fastbp.initializers import initialize
    >>> initialize("glorot_uniform", (2, 3), seed=0, step=0).round(4).tolist()
    [[-0.7034, 1.0695, 0.9014], [-0.2455, -0.8872, -0.7057]]
    >>> initialize([0.5, -0.5], (2,), seed=0, step=0, name="bias_init").tolist()
    [0.5, -0.5]
    >>> initialize(0.1, (2,), seed=0, step=0, name="bias_init").tolist()
    [0.1, 0.1]
    >>> import numpy as np
    >>> initialize(lambda shape, seed, step: np.eye(*shape), (2, 3), seed=0, step=0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if callable(init):
        rule = next((known for known, row in INITIALIZERS.items() if row is init), None)
        if rule is None:
            return _checked(init(shape, seed, step), shape, f"what {name} returns", "an array of real numbers")
        init = rule
    if isinstance(init, str):
        if init not in INITIALIZERS:
            known = ", ".join(INITIALIZERS)
            raise ValueError(f"{name} must be one of {known}, a number, an array or a function, got {init!r}")
        if len(shape) == 2:
            return INITIALIZERS[init](shape, seed, step)
        if init not in OF_BIASES:
            known = ", ".join(OF_BIASES)
            raise ValueError(f"{name} must be one of {known}, a number, an array of shape {shape} or a function, got {init!r}")
        if init != "torch_linear":
            return INITIALIZERS[init](shape, seed, step)
        if inputs is None:
            raise ValueError(f"{name}='torch_linear' for a bias needs inputs")
        return torch_linear(shape, seed, step, inputs)
    return _checked(init, shape, name, "a name, a number, an array of real numbers or a function", constant=True)


def _checked(init: npt.ArrayLike, shape: Shape, name: str, expected: str, constant: bool = False) -> FloatArray:
    """Values of this shape, new, or an exception; one number stands for all where `constant`."""
    try:
        array = np.asarray(init)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{name} must be a rectangular array, got rows of different lengths") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be {expected}, got {type(init).__name__}")
    values = np.full(shape, array, np.float64) if constant and array.ndim == 0 else array.astype(np.float64)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ValueError(f"{name} must be finite, got {f'{bad} NaN or infinite values' if array.ndim else array}")
    return values


def _matrix(shape: Shape) -> tuple[int, int]:
    """`shape` as (inputs, units), which random rules need."""
    if len(shape) != 2:
        raise ValueError(f"shape must be (inputs, units), got {shape}")
    return shape[0], shape[1]


def _uniform(limit: float, shape: Shape, seed: int, step: int) -> FloatArray:
    u = uniform(seed, STREAM_INIT, step, math.prod(shape))
    return (limit * (2.0 * u - 1.0)).reshape(shape)


def _normal(deviation: float, shape: Shape, seed: int, step: int) -> FloatArray:
    return (deviation * normal(seed, STREAM_INIT, step, math.prod(shape))).reshape(shape)
