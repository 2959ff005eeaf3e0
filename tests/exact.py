"""Activations to DIGITS digits, in decimal arithmetic: the oracle of float64; and in float64: the oracle of float32.

An argument of x beyond which float64 has 0 or infinity, or no more of the function than its limit, is cut off there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
from cases import Array

DIGITS = 50
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651")
SCALE, ALPHA = Decimal("1.0507009873554804934193349852946"), Decimal("1.6732632423543772848170429916717")


def exp(x: Decimal) -> Decimal:
    return max(Decimal(-800), min(Decimal(800), x)).exp()


def log(x: Decimal) -> Decimal:
    return x.ln() if x >= 0 else Decimal("nan")


def sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + exp(-x))


def tanh(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-9"):  # the next term is 2e-55 of the first
        return x - x**3 / 3 + 2 * x**5 / 15
    e = exp(2 * x)
    return (e - 1) / (e + 1)


def softplus(x: Decimal) -> Decimal:
    e = exp(-abs(x))
    return max(x, Decimal(0)) + (e - e**2 / 2 + e**3 / 3 if e < Decimal("1e-12") else (1 + e).ln())


def elu(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-12"):
        return x if x > 0 else x + x**2 / 2 + x**3 / 6 + x**4 / 24
    return x if x > 0 else exp(x) - 1


def selu(x: Decimal) -> Decimal:
    return SCALE * x if x > 0 else SCALE * ALPHA * elu(x)


def softsign(x: Decimal) -> Decimal:
    return x / (1 + abs(x)) if x.is_finite() else Decimal(1).copy_sign(x)


def silu(x: Decimal) -> Decimal:
    return x * sigmoid(x) if x > -1000 else Decimal(0)


def mish(x: Decimal) -> Decimal:
    e = exp(min(x, Decimal(300)))
    return x * (e * (e + 2) / (e * (e + 2) + 2)) if x > -1000 else Decimal(0)


def gelu_tanh(x: Decimal) -> Decimal:
    if abs(x) > 100:
        return max(x, Decimal(0))
    return x * sigmoid(2 * (2 / PI).sqrt() * (x + Decimal("0.044715") * x**3))


def gelu(x: Decimal) -> Decimal:
    """x Phi(x). Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / 15 + ...), below 0 a difference, which leaves fewer digits.

    Phi(-x) = phi(x) / (x + 1 / (x + 2 / (x + 3 / ...))), where x is large.
    """
    if abs(x) > 40:
        return max(x, Decimal(0))
    with localcontext() as context:
        context.prec = 2 * DIGITS
        if x < -7:
            fraction = -x
            for n in range(400, 0, -1):
                fraction = -x + n / fraction
            return x * (-x * x / 2).exp() / (2 * PI).sqrt() / fraction
        term = total = x
        n = 1
        while abs(term) > abs(total).scaleb(-context.prec):
            n += 2
            term = term * x * x / n
            total += term
        return x * (Decimal("0.5") + total * (-x * x / 2).exp() / (2 * PI).sqrt())


def sin(x: Decimal) -> Decimal:
    """For |x| up to 2^30 or so, of which PI leaves 100 digits."""
    with localcontext() as context:
        context.prec = 2 * DIGITS
        r = x - (x / PI).to_integral_value() * PI
        term = total = r
        n = 1
        while term and abs(term) > abs(total).scaleb(-context.prec):
            n += 2
            term = -term * r * r / (n * (n - 1))
            total += term
        return total if int((x / PI).to_integral_value()) % 2 == 0 else -total


DECIMAL: dict[str, Callable[[Decimal], Decimal]] = {
    f.__name__: f
    for f in (exp, log, sigmoid, softplus, tanh, elu, selu, softsign, silu, mish, gelu_tanh, gelu, sin)
}


def _times(z: Array, s: Array) -> Array:
    return np.where(s == 0, 0, z * s)  # also where z is infinite


FLOAT64: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "log": np.log,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
    "tanh": np.tanh,
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "selu": lambda z: float(SCALE) * np.where(z > 0, z, float(ALPHA) * np.expm1(np.minimum(z, 0))),
    "softsign": lambda z: np.where(np.isinf(z), np.sign(z), z / (1 + np.abs(z))),
    "silu": lambda z: _times(z, 1 / (1 + np.exp(-z))),
    "mish": lambda z: _times(z, np.tanh(np.log1p(np.exp(np.minimum(z, 700))))),
    "gelu_tanh": lambda z: _times(z, 1 / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))),
    "gelu": lambda z: _times(z, np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in z.tolist()])),
    "sin": np.sin,
}
