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

FUNCTION_ULP = 4  # exp, log, sigmoid and tanh: NumPy's are within 4 ulp, fastbp's within MAX_ULP

# Errors of fastbp's functions in units of the last place (ULP) of the correctly rounded result, at most. `make ulp` runs through
# all float32 and holds this; it finds (float32, FMA) exp 0.91, log 0.87, sigmoid 2.00, softplus 1.75, tanh 1.85.
MAX_ULP = {"identity": 0.0, "relu": 0.0, "exp": 1.0, "log": 2.0, "sigmoid": 2.0, "softplus": 2.0, "tanh": 2.0}
MAX_ULP_WITHOUT_FMA = {**MAX_ULP, "exp": 1.25, "softplus": 2.25, "tanh": 2.25}  # where a product is rounded before it is added


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


def activate(name: str, Z: Bounded) -> Bounded:
    """O = f(Z)."""
    z, e = Z.value, Z.error
    match name:
        case "identity":
            return Z
        case "relu":  # no rounding, and no error at all where z + e <= 0
            low, value, high = (np.maximum(v, 0) for v in (z - e, z, z + e))
            return Bounded(value, np.maximum(high - value, value - low), Z.in_)
        case "sigmoid":
            return Z.function(1 / (1 + np.exp(-z)), np.full_like(z, 1 / 4))
        case "tanh":
            return Z.function(np.tanh(z), 1 / np.cosh(np.maximum(np.abs(z) - e, 0)) ** 2)
        case "softplus":  # a second function, log1p, and its argument's error
            largest = 1 / (1 + np.exp(-(z + e)))
            O = Z.function(np.logaddexp(0, z), largest)
            return O.result(O.value, O.error, 2 * FUNCTION_ULP)
        case "softmax":
            e = shifted(Z).exp()
            return e / e.sum_rows()
    raise KeyError(f"no error bound for the activation {name!r}")


def deactivate(name: str, O: Bounded, dO: Bounded) -> Bounded:
    """dZ = dO f'(Z), with f' taken from O."""
    one = O.in_.exact(1.0)
    match name:
        case "identity":
            return dO
        case "relu":
            either = (O.value <= O.error) & (O.error > 0)  # the program may find either side of the kink
            return dO * Bounded(1.0 * (O.value > 0), 1.0 * either, O.in_)
        case "sigmoid":
            return dO * O * (one - O)
        case "tanh":
            return dO * (one - O * O)
        case "softplus":
            return dO * O.function(-np.expm1(-O.value), np.exp(O.error - O.value))
        case "softmax":
            return O * (dO - (dO * O).sum_rows())
    raise KeyError(f"no error bound for the activation {name!r}")


def loss(name: str, O: Bounded, y: Array) -> tuple[Bounded, Bounded]:
    """E and dO. Sums over the batch are made in float64 by both programs."""
    m, units = O.value.shape
    scale = O.in_.constant(1 / m)
    if name == "squared_error":
        D = O - O.in_.exact(y.reshape(O.value.shape))
        rows, dO = (D * D).sum_rows(), D * scale
        rows = Bounded(rows.value / 2, rows.error / 2, O.in_)
    elif name == "cross_entropy":
        T = O.in_.exact(np.eye(units)[y] if y.ndim == 1 else y)
        S, weight = shifted(O), T.sum_rows()
        e = S.exp()
        total = e.sum_rows()
        rows = weight * total.log() - (T * S).sum_rows()
        slack = 2 * O.in_.gamma(units + 2) * (T.most * (total.log().most + S.most)).sum(axis=1, keepdims=True)
        rows = Bounded(rows.value, rows.error + slack, O.in_)  # the reference adds up T (lse - Z) instead
        dO = (e / total * weight - T) * scale
    else:
        raise KeyError(f"no error bound for the loss {name!r}")
    wide = Rounding("float64")
    own = wide.gamma(m * units + 2) * float(rows.most.sum()) / m
    return Bounded(rows.value.mean(), rows.error.mean() + own, O.in_), dO


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
        self.outputs = [O]
        for layer in self.layers:
            if isinstance(layer, ref.Dense):
                O = activate(layer.activation, self.with_ones(O) @ self.W[id(layer)])
            else:
                O = activate(layer.name, O)
            self.outputs.append(O)
        return O

    @staticmethod
    def with_ones(O: Bounded) -> Bounded:
        rows = len(O.value)
        value = np.hstack([O.value, np.ones((rows, 1))])
        return Bounded(value, np.hstack([O.error, np.zeros((rows, 1))]), O.in_)

    def backward(self, dO: Bounded) -> Bounded:
        for k in reversed(range(len(self.layers))):
            layer, X, O = self.layers[k], self.outputs[k], self.outputs[k + 1]
            if isinstance(layer, ref.Dense):
                delta = deactivate(layer.activation, O, dO)
                self.dW[id(layer)] = self.with_ones(X).T @ delta
                dO = delta @ self.W[id(layer)][:-1].T
            else:
                dO = deactivate(layer.name, O, dO)
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
