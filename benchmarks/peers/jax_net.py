"""JAX: the whole step in one jitted function, whose parameters and state are donated."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jaxlib

from benchmarks.peers import Job
from benchmarks.problem import Problem

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def open_peer(threads: int) -> dict[str, str]:
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # faster here: no hand-over to another thread
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}


def logits_of(params: Any, x: Any) -> Any:
    for w, b in params[:-1]:
        x = jnp.maximum(x @ w + b, 0)
    w, b = params[-1]
    return x @ w + b


def loss(params: Any, x: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits_of(params, x)), y[:, None], axis=1).mean()


def sgd(params: Any, state: Any, x: Any, y: Any, rate: Any) -> Any:
    value, grads = jax.value_and_grad(loss)(params, x, y)
    return jax.tree.map(lambda p, g: p - rate * g, params, grads), state, value


def adam(params: Any, state: Any, x: Any, y: Any, rate: Any) -> Any:
    value, grads = jax.value_and_grad(loss)(params, x, y)
    t, m, v = state
    t = t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
    size, scale = rate / (1 - BETA1**t), 1 / jnp.sqrt(1 - BETA2**t)
    params = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) * scale + EPS), params, m, v)
    return params, (t, m, v), value


def prepare(problem: Problem) -> Job:
    jax.config.update("jax_enable_x64", problem.dtype == "float64")
    params = [(jnp.array(w), jnp.array(b)) for w, b in zip(problem.weights, problem.biases, strict=True)]
    x, y = jax.device_put(problem.x), jax.device_put(problem.y.astype("int32"))
    if problem.task == "predict":
        forward = jax.jit(logits_of)
        return Job(lambda: forward(params, x).block_until_ready(), read=lambda logits: logits)

    state: Any = ()
    if problem.task == "adam":
        state = (jnp.zeros((), problem.dtype), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))
    update = jax.jit(adam if problem.task == "adam" else sgd, donate_argnums=(0, 1))
    now: Any = jnp.array(1e-3, problem.dtype)

    def rate(value: float) -> None:
        nonlocal now
        now = jnp.array(value, problem.dtype)

    def step() -> Any:
        nonlocal params, state
        params, state, value = update(params, state, x, y, now)
        return value.block_until_ready()

    return Job(step, rate=rate, wait=lambda: jax.block_until_ready(params))
