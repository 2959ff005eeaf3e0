"""Running error bounds: numbers that carry beside their value a bound of the error a computation in some dtype makes.

A `Bounded` (v, e) stands for every computed v' with |v' - v| <= e. With u = eps / 2 the error of one rounding,
an operation f on computed arguments a', b' errs by

    |f(a', b') - f(a, b)|        what the arguments bring with them
    + u |f(a', b')| + tiny       its own rounding; `tiny`, the smallest normal number, for results flushed to 0

For a product of matrices, in any order of summation, with or without fused multiply-adds, K terms and a start value:

    |A| e_B + e_A |B| + e_A e_B  +  gamma(K + 1) (|A| + e_A) (|B| + e_B),    gamma(n) = n u / (1 - n u)

which with exact A and B is the (K + 1) u |A| |B| of the textbooks. Where fastbp and the reference take the same steps
in another order, or fuse two, what stands here has at least as many roundings as either.

So one computation, written once with `Bounded`, bounds the distance of each of two programs to the exact result of the
same formulas: fastbp's with the u of its dtype, the reference's with that of float64. They may differ by both together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cases import Array

import fastbp.reference as ref
from fastbp.reference.activations import activation_named
from fastbp.reference.functions import ALPHA, SCALE

FUNCTION_ULP = 4  # exp, log, sigmoid and tanh: NumPy's are within 4 ulp, fastbp's within MAX_ULP

# Errors of fastbp's functions in units of the last place (ULP) of the correctly rounded result, at most. `make ulp` runs through
# all float32 and holds this; it finds (float32, FMA) exp 0.91, log 0.87, sigmoid 2.00, softplus 1.75, tanh 1.85, elu 0.95,
# selu 1.89, softsign 1.50, gelu 4.87, gelu_tanh 2.53, silu 2.50, mish 4.81, sin 1.67. Where gelu, silu and mish are small, they
# are products of four or five factors, each with its rounding. gelu_tanh is one of e^y, in which an error of y counts y times:
# its errors are in units of (1 + |y|) ULP for z < 0.
MAX_ULP = {
    "exp": 1.0, "log": 2.0, "sigmoid": 2.0, "softplus": 2.0, "tanh": 2.0, "elu": 2.0, "selu": 2.0, "softsign": 2.0,
    "gelu": 5.0, "gelu_tanh": 3.0, "silu": 3.0, "mish": 5.25, "sin": 2.0,
}  # fmt: skip
# Where a product is rounded before it is added.
MAX_ULP_WITHOUT_FMA = {**MAX_ULP, "exp": 1.25, "softplus": 2.25, "tanh": 2.25, "sin": 2.25}
MAX_SINE = {"float32": 2.0**20, "float64": 2.0**30}  # |z| up to which sin is right; beyond, it only stays within [-1, 1]


def max_ulp(function: str, isa: str) -> float:
    return (MAX_ULP_WITHOUT_FMA if isa == "base" else MAX_ULP)[function]



@dataclass(frozen=True)
class Rounding:
    """u and the smallest normal number of a dtype."""

    dtype: str

    @property
    def u(self) -> float:
        return float(np.finfo(self.dtype).eps) / 2

    @property
    def tiny(self) -> float:
        return float(np.finfo(self.dtype).tiny)

    def gamma(self, n: int) -> float:
        assert n * self.u < 1
        return n * self.u / (1 - n * self.u)

    def exact(self, value: object) -> Bounded:
        return Bounded(np.asarray(value, np.float64), np.zeros(np.shape(value)), self)

    def constant(self, value: float) -> Bounded:
        """A number that is rounded to the dtype."""
        return Bounded(np.float64(value), np.float64(self.u * abs(value)), self)


@dataclass(frozen=True)
class Bounded:
    """Values (float64) and error bounds of the same shape."""

    value: Array
    error: Array
    in_: Rounding

    @property
    def most(self) -> Array:
        """|v'| at most."""
        return np.abs(self.value) + self.error

    def result(self, value: Array, brought: Array, roundings: int = 1) -> Bounded:
        """`value`, to which the arguments bring the error `brought`, rounded some times."""
        own = self.in_.gamma(roundings) * (np.abs(value) + brought) + roundings * self.in_.tiny
        return Bounded(value, brought + own, self.in_)

    def __add__(self, other: Bounded) -> Bounded:
        return self.result(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Bounded) -> Bounded:
        return self.result(self.value - other.value, self.error + other.error)

    def __mul__(self, other: Bounded) -> Bounded:
        brought = np.abs(self.value) * other.error + self.error * other.most
        return self.result(self.value * other.value, brought)

    def __truediv__(self, other: Bounded) -> Bounded:
        return self.over(other, np.float64(0))

    def over(self, other: Bounded, least: Array) -> Bounded:
        """The quotient, where more is known of the divisor: it is at least `least`."""
        least = np.maximum(least, np.abs(other.value) - other.error)
        assert np.all(least > 0), "the divisor may be 0"
        quotient = self.value / other.value
        return self.result(quotient, (self.error + np.abs(quotient) * other.error) / least)

    def __matmul__(self, other: Bounded) -> Bounded:
        brought = np.abs(self.value) @ other.error + self.error @ other.most
        terms = self.value.shape[-1] + 1
        own = self.in_.gamma(terms) * (self.most @ other.most) + terms * self.in_.tiny
        return Bounded(self.value @ other.value, brought + own, self.in_)

    @property
    def T(self) -> Bounded:
        return Bounded(self.value.T, self.error.T, self.in_)

    def __getitem__(self, key: object) -> Bounded:
        return Bounded(self.value[key], self.error[key], self.in_)  # type: ignore[index]

    def sum_rows(self) -> Bounded:
        """Sums over each row, as a column: a product with ones."""
        return self @ self.in_.exact(np.ones((self.value.shape[1], 1)))

    def function(self, value: Array, slope: Array) -> Bounded:
        """f(v) for an f whose slope is at most `slope` between v - e and v + e.

        An ulp is at most eps |f| = 2 u |f|; two roundings more where f is made of exp, a sum and a quotient.
        """
        return self.result(value, slope * self.error, 2 * FUNCTION_ULP + 2)

    def exp(self) -> Bounded:
        return self.function(np.exp(self.value), np.exp(self.value + self.error))

    def sqrt(self) -> Bounded:
        root = np.sqrt(self.value)
        low, high = (np.sqrt(np.maximum(self.value + d, 0)) for d in (-self.error, self.error))
        return self.result(root, np.maximum(high - root, root - low))

    def log(self) -> Bounded:
        return self.function(np.log(self.value), 1 / (self.value - self.error))


def shifted(Z: Bounded) -> Bounded:
    """Z - max of the row. It is one constant for all, so its error changes no softmax, but makes Z - max larger."""
    largest = Z.value.max(axis=1, keepdims=True)
    spread = Z.error.max(axis=1, keepdims=True)
    difference = Z.value - largest
    own = Z.in_.u * (np.abs(difference) + Z.error + spread) + Z.in_.tiny
    return Bounded(difference, Z.error + own, Z.in_)


def beside(name: str, z: Array) -> Array:
    """Roundings of f(z), or of its slope, relative to the sizes of `parts`, beyond a handful: errors of an exponent."""
    match name:
        case "gelu":  # e^(-z^2/2), whose exponent the reference rounds twice
            return 2 * np.minimum(z * z, 1500)
        case "gelu_tanh":  # e^y, whose exponent has four roundings; beyond 750 it is 0
            return 8 * np.minimum(np.abs(1.6 * z + 0.0714 * z**3), 750)
        case "mish":  # 1 / cosh(s)^2, s = log(1 + e^z) with two functions
            return 4 * FUNCTION_ULP * np.maximum(z, 0)
    return np.zeros_like(z)


def parts(name: str, z: Array, f: Array, slope: Array) -> tuple[Array, Array]:
    """The sizes of what is added up to f(z), and to its slope."""
    match name:
        case "hard_swish":
            return np.abs(f) + np.abs(z) * (np.abs(z) + 3) / 6 * (np.abs(z) < 3.5), np.abs(slope) + 2
        case "gelu" | "gelu_tanh" | "silu" | "mish":  # S(z) + z S'(z), both terms of which are at most about |z| e^-|z| for z < 0
            S = np.abs(f / np.where(z == 0, 1, z)) + (z == 0)
            return np.abs(f), 2 * S + np.abs(slope)
    return np.abs(f), np.abs(slope)


def own_roundings(name: str, z: Array, a: float) -> Array:
    """Of a function of a few steps; MAX_ULP is at most half of it. A power is multiplied out, or e^(a log z)."""
    few = np.full_like(z, 2 * FUNCTION_ULP + 4)
    if name != "power":
        return few + beside(name, z)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.abs(a * np.log(np.abs(z)))
    return few + (2 * abs(a) + 2 if a == int(a) else 4 * FUNCTION_ULP * np.nan_to_num(exponent, posinf=0))


def curve(name: str, z: Array, a: float | None) -> tuple[Array, Array]:
    """f(z) and f'(z) of the reference."""
    row = activation_named(name, a)
    with np.errstate(all="ignore"):
        O, kept = row.apply(z.copy())
        return O, row.delta(kept, np.ones_like(z))


def farthest(name: str, Z: Bounded, a: float | None) -> tuple[Array, Array]:
    """max |f - f(z)| and max |f' - f'(z)| over z - e, z + e: f' is monotone there, or goes up to an extremum and back."""
    (_, slope), low, high = (curve(name, z, a) for z in (Z.value, Z.value - Z.error, Z.value + Z.error))
    off = np.maximum(np.abs(low[1] - slope), np.abs(high[1] - slope))
    return (np.abs(slope) + off) * Z.error, off


def rounded(Z: Bounded, value: Array, brought: Array, roundings: Array, size: Array) -> Bounded:
    """`value`, made of parts of that size with so many roundings; any may be flushed to 0."""
    own = roundings * Z.in_.u * (size + brought) / (1 - roundings.max(initial=0) * Z.in_.u) + roundings * Z.in_.tiny
    return Bounded(value, brought + own, Z.in_)


def activate(name: str, Z: Bounded, a: float | None = None) -> Bounded:
    """O = f(Z)."""
    z, e = Z.value, Z.error
    match name:
        case "identity":
            return Z
        case "negative":
            return Bounded(-z, e, Z.in_)
        case "relu" | "relu6":  # no rounding, and no error at all where z + e <= 0
            low, value, high = (np.clip(v, 0, 6 if name == "relu6" else np.inf) for v in (z - e, z, z + e))
            return Bounded(value, np.maximum(high - value, value - low), Z.in_)
        case "leaky_relu":  # rounds below 0 only: a, and a z
            brought, a = farthest(name, Z, a)[0], activation_named(name, a).parameter
            own = Z.in_.gamma(2) * (np.abs(curve(name, z, a)[0]) + brought) + Z.in_.tiny
            return Bounded(curve(name, z, a)[0], brought + own * ((z - e <= 0) & (a != 0)), Z.in_)
        case "hard_sigmoid":  # 0 / 6 and 6 / 6 are exact
            S = activate("relu6", Z + Z.in_.exact(3.0))
            O = S / Z.in_.exact(6.0)
            return Bounded(O.value, np.where(S.error == 0, 0, O.error), Z.in_)
        case "sigmoid":
            return Z.function(1 / (1 + np.exp(-z)), np.full_like(z, 1 / 4))
        case "tanh":
            return Z.function(np.tanh(z), 1 / np.cosh(np.maximum(np.abs(z) - e, 0)) ** 2)
        case "softplus":  # a second function, log1p, and its argument's error
            largest = 1 / (1 + np.exp(-(z + e)))
            O = Z.function(np.logaddexp(0, z), largest)
            return O.result(O.value, O.error, 2 * FUNCTION_ULP)
        case "exp":
            return Z.exp()
        case "softmax":
            e = shifted(Z).exp()
            return e / e.sum_rows()
        case "log_softmax":
            S = shifted(Z)
            return S - S.exp().sum_rows().log()
    f, slope = curve(name, z, a)
    a = activation_named(name, a).parameter
    return rounded(Z, f, farthest(name, Z, a)[0], own_roundings(name, z, a or 0.0), parts(name, z, f, slope)[0])


def deactivate(name: str, O: Bounded, dO: Bounded, Z: Bounded, a: float | None = None) -> Bounded:
    """dZ = dO f'(Z), with f' taken from O, or from Z where the reference does."""
    one, row = O.in_.exact(1.0), activation_named(name, a)
    if row.wants_z:
        f, slope = curve(name, Z.value, a)
        a = (row.parameter or 0.0) - 1
        size = parts(name, Z.value, f, slope)[1]
        return dO * rounded(Z, slope, farthest(name, Z, row.parameter)[1], own_roundings(name, Z.value, a) + 2, size)

    def sides(kink: float, below: Bounded, above: Bounded) -> Bounded:
        """`above` where O > kink, else `below`; the program may find either side where O is that near."""
        either = (np.abs(O.value - kink) <= O.error) & (O.error > 0)
        low, high = np.broadcast_to(below.value, O.value.shape), np.broadcast_to(above.value, O.value.shape)
        value, error = (np.where(O.value > kink, y, x) for x, y in ((low, high), (below.error, above.error)))
        return Bounded(value, error + either * (np.abs(high - low) + below.error + above.error), O.in_)

    zero = O.in_.exact(0.0)
    match name:
        case "identity":
            return dO
        case "negative":
            return Bounded(-dO.value, dO.error, dO.in_)
        case "relu":
            return dO * sides(0, zero, one)
        case "leaky_relu":
            return dO * sides(0, O.in_.constant(row.parameter or 0.0), one)
        case "elu":
            return dO * sides(0, O + O.in_.constant(row.parameter or 0.0), one)
        case "selu":
            return dO * sides(0, O + O.in_.constant(SCALE * ALPHA), O.in_.constant(SCALE))
        case "softsign":
            q = one - Bounded(np.abs(O.value), O.error, O.in_)
            return dO * (q * q)
        case "hard_sigmoid" | "relu6":
            top, inner = (1, O.in_.constant(1 / 6)) if name == "hard_sigmoid" else (6, one)
            return dO * sides(0, zero, sides(np.nextafter(top, 0), inner, zero))
        case "exp":
            return dO * O
        case "reciprocal":
            return Bounded(-dO.value, dO.error, dO.in_) * (O * O)
        case "sigmoid":
            return dO * O * (one - O)
        case "tanh":
            return dO * (one - O * O)
        case "softplus":
            return dO * O.function(-np.expm1(-O.value), np.exp(O.error - O.value))
        case "softmax":
            return O * (dO - (dO * O).sum_rows())
        case "log_softmax":
            return dO - O.exp() * dO.sum_rows()
    raise KeyError(f"no error bound for the activation {name!r}")


def ramp(X: Bounded) -> Bounded:
    """max(0, X), which is not rounded; no error at all where X + e <= 0."""
    low, value, high = (np.maximum(v, 0) for v in (X.value - X.error, X.value, X.value + X.error))
    return Bounded(value, np.maximum(high - value, value - low), X.in_)


def chosen(X: Bounded, above: Bounded, below: Bounded) -> Bounded:
    """`above` where X > 0, `below` where X < 0, 0 in between; near 0 the programs may find different ones of these."""
    value = np.where(X.value > 0, above.value, np.where(X.value < 0, below.value, 0))
    largest = np.maximum(above.most, below.most)
    either = np.maximum(np.abs(above.value - below.value), largest) + largest
    error = np.where(X.value > 0, above.error, below.error)
    return Bounded(value, np.where(np.abs(X.value) <= X.error, either, error) + 0 * value, X.in_)


def one_hot(y: Array, classes: int) -> Array:
    return np.eye(classes)[y] if y.ndim == 1 else y


def squared_error(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    D = O - T
    rows = (D * D).sum_rows()
    return Bounded(rows.value / 2, rows.error / 2, O.in_), D


def absolute_error(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    D, one = O - T, O.in_.exact(1.0)
    return Bounded(np.abs(D.value), D.error, O.in_).sum_rows(), chosen(D, one, O.in_.exact(-1.0))


def huber(O: Bounded, T: Bounded, delta: Bounded) -> tuple[Bounded, Bounded]:
    """c (|d| - c/2) has slope c by d and |d| - c by delta; it is at least c |d| / 2, of which its 3 roundings are parts."""
    D = O - T
    c = np.clip(D.value, -delta.value, delta.value)
    C = Bounded(c, np.where(np.abs(D.value) + D.error < delta.value, D.error, np.maximum(D.error, delta.error)), O.in_)
    e = c * (D.value - c / 2)
    rows = D.result(e, C.most * D.error + np.maximum(D.most - C.most, 0) * delta.error, 2 * 3)
    return rows.sum_rows(), C


def log_cosh(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    """In units of a rounding, with f = 2 FUNCTION_ULP those of a function:

    near 0, log1p(-y) with y = tanh^2 <= 1/2, or log1p(2 sinh^2): y has 2 f + 1, of which log1p makes at most 3/2 as many, and
    f + 6 its own; far from 0, the three terms are at most 5 times their sum, and have f + 3.
    """
    D, f = O - T, 2 * FUNCTION_ULP
    A = np.abs(D.value)
    e = np.where(A < 1, np.log1p(2 * np.sinh(np.minimum(A, 1) / 2) ** 2), A - np.log(2) + np.log1p(np.exp(-2 * A)))
    rows = D.result(e, np.tanh(D.most) * D.error, max(3 * f + 2 + f + 6, 5 * (f + 3)))
    return rows.sum_rows(), activate("tanh", D)


def quantile(O: Bounded, T: Bounded, level: Bounded) -> tuple[Bounded, Bounded]:
    D, below = T - O, O.in_.exact(1.0) - level
    one, other = level * D, below * D
    e = Bounded(np.maximum(one.value, -other.value), np.maximum(one.error, other.error), O.in_)
    return e.sum_rows(), chosen(D, Bounded(-level.value, level.error, O.in_), below)


def cross_entropy(O: Bounded, T: Bounded, smoothing: Bounded) -> tuple[Bounded, Bounded]:
    units = O.value.shape[1]
    if smoothing.value:
        T = T * (O.in_.exact(1.0) - smoothing) + O.in_.constant(float(smoothing.value) / units)
    S, weight = shifted(O), T.sum_rows()
    e = S.exp()
    total = e.sum_rows()
    rows = weight * total.log() - (T * S).sum_rows()
    slack = 2 * O.in_.gamma(units + 2) * (T.most * (total.log().most + S.most)).sum(axis=1, keepdims=True)
    rows = Bounded(rows.value, rows.error + slack, O.in_)  # the reference adds up T (lse - Z) instead
    return rows, e / total * weight - T


def binary_cross_entropy(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    z = O.value
    rest = O.function(np.log1p(np.exp(-np.abs(z))), np.ones_like(z) / 2)
    rest = rest.result(rest.value, rest.error, 2 * FUNCTION_ULP)  # a second function, log1p
    P = O.function(1 / (1 + np.exp(-z)), np.full_like(z, 1 / 4))
    g = P - T
    return (ramp(O) - T * O + rest).sum_rows(), g.result(g.value, g.error + 2 * O.in_.u * T.most)  # (1 - t) - p


def hinge(O: Bounded, T: Bounded, margin: Bounded) -> tuple[Bounded, Bounded]:
    row, y = np.arange(len(O.value)), T.value.argmax(axis=1)
    right = Bounded(O.value[row, y][:, None], O.error[row, y][:, None], O.in_)
    X = O - right + margin
    X.value[row, y], X.error[row, y] = -1, 0  # takes no part
    g = chosen(X, O.in_.exact(1.0), O.in_.exact(0.0))
    g.value[row, y], g.error[row, y] = -g.value.sum(axis=1), g.error.sum(axis=1)
    return ramp(X).sum_rows(), g


def binary_hinge(O: Bounded, T: Bounded, margin: Bounded) -> tuple[Bounded, Bounded]:
    Y = np.where(T.value > 0, 1.0, -1.0)
    X = margin - Bounded(Y * O.value, O.error, O.in_)
    step = chosen(X, O.in_.exact(1.0), O.in_.exact(0.0))
    return ramp(X).sum_rows(), Bounded(-Y * step.value, step.error, O.in_)


def poisson(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    rate = O.exp()
    return (rate - T * O).sum_rows(), rate - T


def gaussian_nll(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    units, half = T.value.shape[1], O.in_.exact(0.5)
    mean, S = (Bounded(O.value[:, part], O.error[:, part], O.in_) for part in (slice(0, units), slice(units, None)))
    q = Bounded(-S.value / 4, S.error / 4, O.in_).exp()
    D = mean - T
    none = (D.value == 0) & (mean.error == 0)  # a residual of exactly 0 is none, however small the variance
    R, dmean = (Bounded(np.where(none, 0, X.value), np.where(none, 0, X.error), O.in_) for X in (D * q * q, D * q * q * q * q))
    dS = half * (O.in_.exact(1.0) - R * R)
    g = Bounded(np.hstack([dmean.value, dS.value]), np.hstack([dmean.error, dS.error]), O.in_)
    return (half * (S + R * R)).sum_rows(), g


# Of one row: e, as a column, and de/do.
LOSSES = {
    f.__name__: f
    for f in (
        squared_error, cross_entropy, absolute_error, huber, log_cosh, quantile, binary_cross_entropy, hinge, binary_hinge,
        poisson, gaussian_nll,
    )
}  # fmt: skip


def loss(
    name: str, O: Bounded, y: Array, parameter: float | None = None, weights: Array | None = None
) -> tuple[Bounded, Bounded]:
    """E and dO. Sums over the batch are made in float64 by both programs."""
    m, units = O.value.shape
    usual = ref.losses.loss_named(name).parameter
    a = O.in_.constant((usual or 0.0) if parameter is None else parameter)
    labels = name in ("cross_entropy", "hinge")
    rows, slope = LOSSES[name](O, O.in_.exact(one_hot(y, units) if labels else y.reshape(m, -1)), a)
    wide = Rounding("float64")
    w = np.ones(m) if weights is None else weights
    scale = w / w.sum()
    error = (O.in_.u + (0 if weights is None else wide.gamma(m + 3))) * scale
    own = wide.gamma(m * units + m + 4) * float((scale * rows.most[:, 0]).sum())
    E = Bounded((scale * rows.value[:, 0]).sum(), (scale * rows.error[:, 0]).sum() + own, O.in_)
    return E, slope * Bounded(scale[:, None], error[:, None], O.in_)


def correction(beta: float, t: int, in_: Rounding) -> Bounded:
    """1 - beta^t, the power made in float64 by up to two products for every bit of t, or by libm."""
    power = beta**t
    error = Rounding("float64").gamma(2 * t.bit_length()) * power
    return Bounded(np.float64(1 - power), np.float64(error + in_.u * (1 - power)), in_)


def direction(optimizer: ref.optimizers.Optimizer, g: Bounded, state: list[Bounded], t: int) -> Bounded:
    """What the learning rate multiplies in step t; `state`, empty before the first step, changes."""
    in_ = g.in_
    if not state:
        state += [in_.exact(np.zeros(g.value.shape))] * optimizer.slots
    least = np.float64(getattr(optimizer, "eps", 0) * (1 - in_.gamma(4)))  # a root is never below 0
    match optimizer:
        case ref.SGD(momentum=0.0):
            return g
        case ref.SGD():
            momentum = in_.constant(optimizer.momentum)
            state[0] = momentum * state[0] + g
            return g + momentum * state[0] if optimizer.nesterov else state[0]
        case ref.Adam():
            for i, (beta, new) in enumerate(((optimizer.beta1, g), (optimizer.beta2, g * g))):
                state[i] = in_.constant(beta) * state[i] + in_.constant(1 - beta) * new
            M = state[0] / correction(optimizer.beta1, t, in_)
            V = state[1] / correction(optimizer.beta2, t, in_)
            return M.over(V.sqrt() + in_.constant(optimizer.eps), least)
        case ref.RMSprop():
            state[0] = in_.constant(optimizer.alpha) * state[0] + in_.constant(1 - optimizer.alpha) * (g * g)
        case ref.Adagrad():
            state[0] = state[0] + g * g
        case _:
            raise KeyError(f"no error bound for {optimizer!r}")
    return g.over(state[0].sqrt() + in_.constant(optimizer.eps), least)


def clipped(optimizer: ref.optimizers.Optimizer, g: Bounded) -> Bounded:
    """All of a gradient, with the norm or the elements that are allowed."""
    in_ = g.in_
    if optimizer.clip_value is not None:
        most = in_.constant(optimizer.clip_value)
        return Bounded(np.clip(g.value, -most.value, most.value), np.maximum(g.error, most.error), in_)
    if optimizer.clip_norm is not None:
        norm = (g[None, :] @ g[:, None]).sqrt()
        assert np.all(np.abs(norm.value - optimizer.clip_norm) > norm.error), "clipped or not: rounding errors decide"
        if np.all(norm.value > optimizer.clip_norm):
            return g * (in_.constant(optimizer.clip_norm) / norm)[0]
    return g


def updated(optimizer: ref.optimizers.Optimizer, W: Bounded, g: Bounded, state: list[Bounded], t: int, decays: Array) -> Bounded:
    """W after step t; l2, l1 and weight decay act where `decays` is 1, not where it is 0."""
    in_ = W.in_
    rate, decay, mask = optimizer.learning_rate, getattr(optimizer, "weight_decay", 0.0), in_.exact(decays)
    if optimizer.l2:
        g = g + mask * in_.constant(optimizer.l2) * W
    if optimizer.l1:
        either = (np.abs(W.value) <= W.error) & (W.error > 0)  # the program may find either sign
        g = g + mask * in_.constant(optimizer.l1) * Bounded(np.sign(W.value), 2.0 * either, in_)
    if decay:
        W = W - mask * in_.constant(rate * decay) * W
    return W - in_.constant(rate) * direction(optimizer, g, state, t)


def limited(optimizer: ref.optimizers.Optimizer, W: Bounded) -> Bounded:
    """W (I + 1, U) after the norms of its columns, without the bias row, have been limited.

    The factor min(1, most / norm) is most / max(norm, most), which is continuous: rounding errors may decide whether to shrink.
    """
    if optimizer.max_norm is None:
        return W
    in_, weights, most = W.in_, W[:-1], W.in_.constant(optimizer.max_norm)
    norm = (in_.exact(np.ones((1, len(weights.value)))) @ (weights * weights)).sqrt()  # (1, U)
    shrunk = weights * (most / Bounded(np.maximum(norm.value, most.value), norm.error + most.error, in_))
    below = norm.value + norm.error < most.value - most.error
    value = np.where(below, weights.value, shrunk.value)
    error = np.where(below, weights.error, shrunk.error)
    return Bounded(np.vstack([value, W.value[-1:]]), np.vstack([error, W.error[-1:]]), in_)


class Network:
    """The chain of a reference network, with bounds: forward, backward and update of the same parameters."""

    def __init__(self, net: ref.Sequential, in_: Rounding) -> None:
        self.layers = [layer for layer in net.layers if not isinstance(layer, ref.Input)]
        self.loss, self.optimizer, self.in_ = net.loss, net.optimizer, in_
        dense = [layer for layer in self.layers if isinstance(layer, ref.Dense)]
        self.order = [id(layer) for layer in dense]
        self.W = {id(layer): in_.exact(np.vstack([layer.weight, layer.bias])) for layer in dense}
        self.dW: dict[int, Bounded] = {}
        self.gathered: list[Bounded] = []
        self.state: list[Bounded] = []
        self.updates = 0

    def forward(self, x: Array) -> Bounded:
        O = self.in_.exact(x)
        self.outputs, self.Z = [O], []
        for layer in self.layers:
            dense = isinstance(layer, ref.Dense)
            self.Z.append(self.with_ones(O) @ self.W[id(layer)] if dense else O)
            O = activate(layer.activation if dense else layer.name, self.Z[-1], None if dense else layer.parameter)
            self.outputs.append(O)
        return O

    @staticmethod
    def with_ones(O: Bounded) -> Bounded:
        rows = len(O.value)
        value = np.hstack([O.value, np.ones((rows, 1))])
        return Bounded(value, np.hstack([O.error, np.zeros((rows, 1))]), O.in_)

    def backward(self, dO: Bounded) -> Bounded:
        for k in reversed(range(len(self.layers))):
            layer, X, O, Z = self.layers[k], self.outputs[k], self.outputs[k + 1], self.Z[k]
            if isinstance(layer, ref.Dense):
                delta = deactivate(layer.activation, O, dO, Z)
                self.dW[id(layer)] = self.with_ones(X).T @ delta
                dO = delta @ self.W[id(layer)][:-1].T
            else:
                dO = deactivate(layer.name, O, dO, Z, layer.parameter)
        return dO

    def update(self) -> None:
        assert self.optimizer is not None
        self.gathered.append(self.grads)
        if len(self.gathered) < self.optimizer.accumulate:
            return
        self.updates += 1
        g = self.gathered[0]
        for other in self.gathered[1:]:
            g = g + other
        if self.optimizer.accumulate > 1:
            g = g * self.in_.constant(1 / self.optimizer.accumulate)
        self.gathered.clear()
        g = clipped(self.optimizer, g)
        decays = {key: np.ones(W.value.shape) for key, W in self.W.items()}
        for mask in decays.values():
            mask[-1] = self.optimizer.decay_biases
        flat = np.concatenate([decays[key].reshape(-1) for key in self.order])
        params = updated(self.optimizer, self.params, g, self.state, self.updates, flat)
        start = 0
        for key in self.order:
            shape = self.W[key].value.shape
            part = params[start : (start := start + decays[key].size)]
            self.W[key] = limited(self.optimizer, Bounded(part.value.reshape(shape), part.error.reshape(shape), self.in_))

    def train_step(self, x: Array, y: Array) -> Bounded:
        assert self.loss is not None
        E, dO = loss(self.loss, self.forward(x), y)
        self.backward(dO)
        self.update()
        return E

    def flat(self, parts: dict[int, Bounded]) -> Bounded:
        """W or dW of all layers in one vector, as `params` and `grads` have them."""
        ordered = [parts[key] for key in self.order]
        value = np.concatenate([part.value.reshape(-1) for part in ordered])
        return Bounded(value, np.concatenate([part.error.reshape(-1) for part in ordered]), self.in_)

    @property
    def params(self) -> Bounded:
        return self.flat(self.W)

    @property
    def grads(self) -> Bounded:
        return self.flat(self.dW)
