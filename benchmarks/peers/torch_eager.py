"""PyTorch, eager."""

from __future__ import annotations

import re

import torch
from torch.nn import functional

from benchmarks.peers import Job
from benchmarks.problem import Problem

BETAS, EPS = (0.9, 0.999), 1e-8


def open_peer(threads: int) -> dict[str, str]:
    torch.set_num_threads(threads)
    built = torch.__config__.show()
    found = re.search(r"BLAS_INFO=(\w+)", built)
    capability = re.search(r"CPU capability usage: (\w+)", built)
    return {
        "torch": torch.__version__,
        "blas": found.group(1) if found else "unknown",
        "kernels": capability.group(1) if capability else "unknown",
    }


def tensors(problem: Problem) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Weights (U, I), biases, x and y."""
    weights = [torch.tensor(w.T.copy()) for w in problem.weights]
    return weights, [torch.tensor(b) for b in problem.biases], torch.tensor(problem.x), torch.tensor(problem.y)


def logits_of(weights: list[torch.Tensor], biases: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A plain chain of linear and relu."""
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = functional.relu(functional.linear(x, w, b))
    return functional.linear(x, weights[-1], biases[-1])


def prepare(problem: Problem) -> Job:
    weights, biases, x, y = tensors(problem)
    if problem.task == "predict":
        *hidden, last = list(zip(weights, biases, strict=True))
        linear = functional.linear

        def predict() -> torch.Tensor:
            h = x
            for w, b in hidden:
                h = linear(h, w, b).relu_()
            return linear(h, *last)

        return Job(predict, read=lambda logits: logits.numpy(), context=torch.inference_mode)

    params = [p.requires_grad_() for pair in zip(weights, biases, strict=True) for p in pair]
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(params, lr=1e-3, betas=BETAS, eps=EPS, fused=True)
        if problem.task == "adam"
        else torch.optim.SGD(params, lr=1e-3, fused=True)
    )

    def step() -> torch.Tensor:
        loss = functional.cross_entropy(logits_of(weights, biases, x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    def rate(value: float) -> None:
        optimizer.param_groups[0]["lr"] = value

    return Job(step, read=lambda loss: float(loss.detach()), rate=rate)
