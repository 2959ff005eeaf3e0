"""PyTorch, compiled: gradients by `torch.func` and the update in place, all in one graph.

Compiling loss and backward alone, with an eager optimizer, was slower than not compiling on small networks.
"""

from __future__ import annotations

import shutil
from typing import Any

import torch
from torch.nn import functional

from benchmarks.peers import Job, MissingError
from benchmarks.peers import torch_eager as eager
from benchmarks.problem import Problem

Tensors = list[torch.Tensor]


def open_peer(threads: int) -> dict[str, str]:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise MissingError("torch.compile needs a C++ compiler")
    return eager.open_peer(threads)


def compiled(function: Any) -> Any:
    options: dict[str, Any] = {"cpp_wrapper": True}
    if hasattr(torch.compiler, "skip_all_guards_unsafe"):
        options["guard_filter_fn"] = torch.compiler.skip_all_guards_unsafe
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)


def prepare(problem: Problem) -> Job:
    torch.compiler.reset()
    weights, biases, x, y = eager.tensors(problem)
    n = len(weights)
    params, lr = [*weights, *biases], torch.tensor(1e-3, dtype=x.dtype)
    beta1, beta2 = eager.BETAS

    if problem.task == "predict":
        forward = compiled(lambda params, x: eager.logits_of(params[:n], params[n:], x))
        return Job(lambda: forward(params, x), read=lambda logits: logits.numpy(), context=torch.inference_mode)

    def loss(params: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(eager.logits_of(params[:n], params[n:], x), y)

    def sgd(params: Tensors, x: torch.Tensor, y: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        grads, value = torch.func.grad_and_value(loss)(params, x, y)
        for p, g in zip(params, grads, strict=True):
            p.sub_(lr * g)
        return value

    def adam(
        params: Tensors, x: torch.Tensor, y: torch.Tensor, size: torch.Tensor, scale: torch.Tensor, m: Tensors, v: Tensors
    ) -> torch.Tensor:
        grads, value = torch.func.grad_and_value(loss)(params, x, y)
        for p, g, mean, square in zip(params, grads, m, v, strict=True):
            mean.lerp_(g, 1 - beta1)
            square.mul_(beta2).add_(g * g, alpha=1 - beta2)
            p.sub_(size * mean / (square.sqrt() * scale + eager.EPS))
        return value

    if problem.task == "sgd":
        whole = compiled(sgd)
        return Job(lambda: whole(params, x, y, lr), rate=lr.fill_, context=torch.no_grad)

    whole, t, now = compiled(adam), 0, 1e-3
    scale = torch.ones_like(lr)
    m, v = ([torch.zeros_like(p) for p in params] for _ in range(2))

    def step() -> torch.Tensor:
        nonlocal t
        t += 1
        lr.fill_(now / (1 - beta1**t))  # out here: a compiled kernel would do it again for every element
        scale.fill_((1 - beta2**t) ** -0.5)
        return whole(params, x, y, lr, scale, m, v)

    def rate(value: float) -> None:
        nonlocal now
        now = value

    return Job(step, rate=rate, context=torch.no_grad)
