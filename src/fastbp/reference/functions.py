# ruff: noqa: E741 - O is the field's letter for an output
"""Activation functions O = f(Z), each with its way back, delta = dO * f'(Z), for the rows of `activations.ACTIVATIONS`.

f(Z, out) computes O in the memory `out`, which may be Z itself. f_delta takes O, or, in the second half, Z. Neither changes what
it is given. Rows with a parameter take it as last argument.
"""

from __future__ import annotations

import math

import numpy as np

from fastbp.checks import Array
from fastbp.values import Function

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # of selu
LARGE = 1e30  # as good as infinity to softsign: z / (1 + z) rounds to 1
erfc = np.vectorize(math.erfc, otypes=[np.float64])


def identity(Z: Array, out: Array) -> None:
    """O = Z."""
    if out is not Z:
        out[...] = Z


def identity_delta(O: Array, dO: Array) -> Array:
    """Delta = dO."""
    return dO


def sigmoid(Z: Array, out: Array) -> None:
    """O = 1 / (1 + exp(-Z)). Where exp(-Z) overflows to infinity the quotient is 0, as it should be."""
    with np.errstate(over="ignore"):
        np.negative(Z, out=out)
        np.exp(out, out=out)
    out += 1.0
    np.divide(1.0, out, out=out)


def sigmoid_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * O * (1 - O)."""
    return dO * O * (1.0 - O)


def relu(Z: Array, out: Array) -> None:
    """O = max(Z, 0); NaN stays NaN."""
    np.maximum(Z, 0.0, out=out)


def relu_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * (O > 0). At the kink, Z = 0, the derivative is taken as 0."""
    return dO * (O > 0.0)


def tanh(Z: Array, out: Array) -> None:
    """O = tanh(Z)."""
    np.tanh(Z, out=out)


def tanh_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * (1 - O**2)."""
    return dO * (1.0 - O * O)


def softplus(Z: Array, out: Array) -> None:
    """O = log(1 + exp(Z)) = max(Z, 0) + log1p(exp(-abs(Z))), where exp cannot overflow."""
    largest = np.maximum(Z, 0.0)
    np.abs(Z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    out += largest


def softplus_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * (1 - exp(-O)), where exp(Z) = exp(O) - 1."""
    delta: Array = dO * -np.expm1(-O)
    return delta


def softmax(Z: Array, out: Array) -> None:
    """O_j = exp(Z_j) / sum_k exp(Z_k) in each row.

    Taking the row's maximum from every Z changes nothing in the quotient, and keeps exp from overflowing.
    """
    np.subtract(Z, Z.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)


def softmax_delta(O: Array, dO: Array) -> Array:
    """Delta = O * (dO - sum(dO * O)), the sum over the row."""
    delta: Array = O * (dO - (dO * O).sum(axis=1, keepdims=True))
    return delta


def leaky_relu(Z: Array, out: Array, a: float) -> None:
    """O = Z where Z > 0, else a * Z."""
    out[...] = np.where(Z > 0.0, Z, a * Z)


def leaky_relu_delta(O: Array, dO: Array, a: float) -> Array:
    """Delta = dO where O > 0, else a * dO. As a is not negative, O > 0 where Z > 0."""
    return np.where(O > 0.0, dO, a * dO)


def elu(Z: Array, out: Array, a: float) -> None:
    """O = Z where Z > 0, else a * (exp(Z) - 1)."""
    out[...] = np.where(Z > 0.0, Z, a * np.expm1(np.minimum(Z, 0.0)))


def elu_delta(O: Array, dO: Array, a: float) -> Array:
    """Delta = dO where O > 0, else dO * (O + a), where O + a = a * exp(Z)."""
    return dO * np.where(O > 0.0, 1.0, O + a)


def selu(Z: Array, out: Array) -> None:
    """O = SCALE * elu(Z, ALPHA): activations of deep networks tend to mean 0 and variance 1 (Klambauer et al., 2017)."""
    elu(Z, out, ALPHA)
    out *= SCALE


def selu_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * SCALE where O > 0, else dO * (O + SCALE * ALPHA)."""
    return dO * np.where(O > 0.0, SCALE, O + SCALE * ALPHA)


def softsign(Z: Array, out: Array) -> None:
    """O = Z / (1 + abs(Z)); at infinity, the limit."""
    finite = np.clip(Z, -LARGE, LARGE)
    out[...] = finite / (1.0 + np.abs(finite))


def softsign_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * (1 - abs(O))**2, since 1 - abs(O) = 1 / (1 + abs(Z))."""
    return dO * (1.0 - np.abs(O)) ** 2


def hard_sigmoid(Z: Array, out: Array) -> None:
    """O = min(max(Z + 3, 0), 6) / 6: a sigmoid of three straight lines."""
    out[...] = np.clip(Z + 3.0, 0.0, 6.0) / 6.0


def hard_sigmoid_delta(O: Array, dO: Array) -> Array:
    """Delta = dO / 6 where 0 < O < 1, else 0."""
    return dO * (((O > 0.0) & (O < 1.0)) / 6.0)


def relu6(Z: Array, out: Array) -> None:
    """O = min(max(Z, 0), 6)."""
    np.clip(Z, 0.0, 6.0, out=out)


def relu6_delta(O: Array, dO: Array) -> Array:
    """Delta = dO where 0 < O < 6, else 0."""
    return dO * ((O > 0.0) & (O < 6.0))


def exp(Z: Array, out: Array) -> None:
    """O = exp(Z)."""
    with np.errstate(over="ignore"):
        np.exp(Z, out=out)


def exp_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * O."""
    return dO * O


def log_softmax(Z: Array, out: Array) -> None:
    """O_j = Z_j - log sum_k exp(Z_k) in each row, again with the row's maximum taken from every Z."""
    shifted = Z - Z.max(axis=1, keepdims=True)
    np.subtract(shifted, np.log(np.exp(shifted).sum(axis=1, keepdims=True)), out=out)


def log_softmax_delta(O: Array, dO: Array) -> Array:
    """Delta = dO - exp(O) * sum(dO), the sum over the row; exp(O) is the softmax."""
    delta: Array = dO - np.exp(O) * dO.sum(axis=1, keepdims=True)
    return delta


def reciprocal(Z: Array, out: Array) -> None:
    """O = 1 / Z."""
    with np.errstate(divide="ignore"):
        np.divide(1.0, Z, out=out)


def reciprocal_delta(O: Array, dO: Array) -> Array:
    """Delta = -dO * O**2."""
    return -dO * (O * O)


def negative(Z: Array, out: Array) -> None:
    """O = -Z."""
    np.negative(Z, out=out)


def negative_delta(O: Array, dO: Array) -> Array:
    """Delta = -dO."""
    return -dO


# Those whose derivative needs Z: different Z give the same O, but not the same slope. -------------------------------------


def times(Z: Array, S: Array) -> Array:
    """Z * S, and 0 wherever S is, also where Z is infinite."""
    with np.errstate(invalid="ignore"):
        product: Array = np.where(S == 0.0, S, Z * S)
    return product


def logistic(Z: Array) -> Array:
    """1 / (1 + exp(-Z))."""
    S = np.empty_like(Z)
    sigmoid(Z, S)
    return S


def normal_cdf(Z: Array) -> Array:
    """Phi(Z), the probability that a standard normal number is below Z: erfc(-Z / sqrt(2)) / 2."""
    P: Array = (erfc(-Z / math.sqrt(2.0)) / 2.0).astype(Z.dtype)
    return P


def gelu(Z: Array, out: Array) -> None:
    """O = Z * Phi(Z)."""
    out[...] = times(Z, normal_cdf(Z))


def gelu_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO * (Phi(Z) + Z phi(Z)), phi(Z) = exp(-Z**2 / 2) / sqrt(2 pi)."""
    with np.errstate(over="ignore"):
        return dO * (normal_cdf(Z) + times(Z, np.exp(-Z * Z / 2.0) / math.sqrt(2.0 * math.pi)))


def gelu_tanh(Z: Array, out: Array) -> None:
    """O = Z * (1 + tanh(Y / 2)) / 2 = Z * sigmoid(Y), Y = 2 sqrt(2/pi) (Z + 0.044715 Z**3)."""
    out[...] = times(Z, logistic(cubic(Z)))


def gelu_tanh_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO * (S + Z Y' S (1 - S)), S = sigmoid(Y), Y' = 2 sqrt(2/pi) (1 + 3 * 0.044715 Z**2)."""
    S = logistic(cubic(Z))
    with np.errstate(over="ignore"):
        dY = 2.0 * math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * Z * Z)
        return dO * (S + times(Z * dY, S * (1.0 - S)))


def cubic(Z: Array) -> Array:
    """Y of gelu_tanh."""
    with np.errstate(over="ignore"):
        Y: Array = 2.0 * math.sqrt(2.0 / math.pi) * (Z + 0.044715 * Z * Z * Z)
    return Y


def silu(Z: Array, out: Array) -> None:
    """O = Z * sigmoid(Z)."""
    out[...] = times(Z, logistic(Z))


def silu_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO * (S + Z S (1 - S)), S = sigmoid(Z)."""
    S = logistic(Z)
    return dO * (S + times(Z, S * (1.0 - S)))


def mish(Z: Array, out: Array) -> None:
    """O = Z * tanh(softplus(Z))."""
    S = np.empty_like(Z)
    softplus(Z, S)
    out[...] = times(Z, np.tanh(S))


def mish_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO * (T + Z (1 - T**2) sigmoid(Z)), T = tanh(softplus(Z))."""
    S = np.empty_like(Z)
    softplus(Z, S)
    with np.errstate(over="ignore"):
        return dO * (np.tanh(S) + times(Z, logistic(Z) / np.cosh(S) ** 2))


def hard_swish(Z: Array, out: Array) -> None:
    """O = Z * hard_sigmoid(Z)."""
    out[...] = times(Z, np.clip(Z + 3.0, 0.0, 6.0) / 6.0)


def hard_swish_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO * (2 Z + 3) / 6 where -3 < Z < 3; 0 below, dO above."""
    bent = (2.0 * np.clip(Z, -3.0, 3.0) + 3.0) / 6.0
    return dO * np.where(Z >= 3.0, 1.0, np.where(Z <= -3.0, 0.0, bent))


def sin(Z: Array, out: Array) -> None:
    """O = sin(Z)."""
    np.sin(Z, out=out)


def sin_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO * cos(Z)."""
    return dO * np.cos(Z)


def square(Z: Array, out: Array) -> None:
    """O = Z**2."""
    np.multiply(Z, Z, out=out)


def square_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO * 2 Z."""
    return dO * (Z + Z)


def log(Z: Array, out: Array) -> None:
    """O = log(Z); -infinity at 0, not a number below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        np.log(Z, out=out)


def log_delta(Z: Array, dO: Array) -> Array:
    """Delta = dO / Z."""
    with np.errstate(divide="ignore"):
        return dO * (1.0 / Z)


def power(Z: Array, out: Array, a: float) -> None:
    """O = Z**a; not a number where Z < 0 and a is not whole, nor where Z is none."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        out[...] = np.where(np.isnan(Z), Z, np.power(Z, a))


def power_delta(Z: Array, dO: Array, a: float) -> Array:
    """Delta = dO * a Z**(a - 1)."""
    if a == 0.0:
        return dO * 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        delta: Array = dO * (a * np.power(Z, a - 1.0))
    return delta


def custom(Z: Array, out: Array, function: Function) -> None:
    """O = f(Z), for the pair (f, df) of a user's own functions."""
    out[...] = function[0](Z)


def custom_delta(Z: Array, dO: Array, function: Function) -> Array:
    """Delta = dO * df(Z)."""
    return dO * np.asarray(function[1](Z), dO.dtype)
