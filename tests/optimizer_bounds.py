"""Running error bounds of the optimizers: one update of W. See bounds.py."""

from __future__ import annotations

import numpy as np
from bounds import Bounded, Rounding
from cases import Array

import fastbp.reference as ref


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
