"""The table of peers: what each is called, which module drives it, what it needs and how it is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVERYTHING = ("sgd", "adam", "predict")


class MissingError(Exception):
    """The peer cannot do this here; the message says why."""


@dataclass
class Job:
    """One task, ready to be timed.

    Attributes
    ----------
    step : callable
        A training step or a prediction; what it returns, `read` understands.
    read : callable
        What `step` returned -> loss of that step, before its update, or logits.
    rate : callable
        Sets the learning rate.
    wait : callable
        Returns when all steps are done.
    context : callable
        Makes the context manager to step in.
    steps : int
        Training steps that one call of `step` does.
    note : str
        A choice made in preparing it.
    """

    step: Callable[[], Any]
    read: Callable[[Any], Any] = float
    rate: Callable[[float], object] = lambda rate: None
    wait: Callable[[], object] = lambda: None
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    steps: int = 1
    note: str = ""


@dataclass(frozen=True)
class Peer:
    """A row of the table.

    Attributes
    ----------
    name : str
    module : str
        Of this package; it has `open_peer(threads)`, which returns versions as a dict, and `prepare(problem)`, which returns a Job.
    about : str
        How it is used, for the report.
    tasks : tuple of str
    spin : float
        Seconds its idle threads go on spinning after a call: the driver waits as long before the next peer's turn.
    environment : dict
        Variables of its process.
    slow_setup : bool
        Whether a quick run leaves it out.
    """

    name: str
    module: str
    about: str
    tasks: tuple[str, ...] = EVERYTHING
    spin: float = 0.03
    environment: dict[str, str] = field(default_factory=dict)
    slow_setup: bool = False


def wide_kernels() -> dict[str, str]:
    """The variable that gives NumPy's OpenBLAS its AVX-512 kernels, where the CPU has AVX-512: it knows too few CPUs itself."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    return {"OPENBLAS_CORETYPE": "SkylakeX"} if "avx512vl" in flags and "OPENBLAS_CORETYPE" not in os.environ else {}


PEERS = {
    peer.name: peer
    for peer in (
        Peer("fastbp", "fastbp_net", "`train_step(x, y)`, `predict(x, out=out)`", ("sgd", "adam", "predict", "steps", "fit"), 0.001),
        Peer("numpy", "numpy_net", "`fastbp.reference` on NumPy's BLAS as it comes", spin=0.15),
        Peer(
            "numpy-avx512",
            "numpy_net",
            "the same with `OPENBLAS_CORETYPE=SkylakeX`, for CPUs that OpenBLAS gives narrower kernels",
            spin=0.15,
            environment=wide_kernels() | {"FASTBP_BENCH_WIDE": "1"},
        ),
        Peer("torch", "torch_eager", "eager; fused optimizers, `inference_mode`"),
        Peer(
            "torch-compiled",
            "torch_compiled",
            "`torch.compile` of the whole step (`torch.func.grad_and_value` and the update), C++ wrapper, guards skipped",
            environment={"TORCHINDUCTOR_COMPILE_THREADS": "1"},
            slow_setup=True,
        ),
        Peer(
            "jax",
            "jax_net",
            "jitted step with donated buffers, synchronous dispatch",
            environment={"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"},
        ),
        Peer(
            "scikit-learn",
            "sklearn_net",
            "`MLPClassifier.partial_fit` on the batch, `predict_proba`; `assume_finite`, AVX-512 kernels of OpenBLAS if any",
            spin=0.15,
            environment=wide_kernels(),
        ),
        Peer("onnxruntime", "onnx_net", "sequential, the faster of `run` and io binding", ("predict",)),
    )
}
MEMORY = Peer("memory", "memory", "copying an array", ("copy",))  # no peer, but the same machinery measures it
