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
            return dO * ((one + O) * (one - O))
        case "softplus":
            return dO * O.function(-np.expm1(-O.value), np.exp(O.error - O.value))
        case "softmax":
            return O * (dO - (dO * O).sum_rows())
        case "log_softmax":
            return dO - O.exp() * dO.sum_rows()
    raise KeyError(f"no error bound for the activation {name!r}")
