"""The table of peers: what each is called, which module drives it, what it needs and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
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
        Of this package. Its `open_peer(threads)` returns versions as a dict, its `prepare(problem)` a Job.
    about : str
        How it is used, for the report.
    tasks : tuple of str
    spin : float
        Seconds that its idle threads may go on spinning after a call: the driver waits as long before the next peer's turn.
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


# Variables that narrow a library's kernels: a worker's process does without them.
NARROWING = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "NPY_DISABLE_CPU_FEATURES",
    "XLA_FLAGS",
    "FASTBP_ISA",
)

PEERS = {
    peer.name: peer
    for peer in (
        Peer("fastbp", "fastbp_net", "`train_step(x, y)`, `predict(x, out=out)`", (*EVERYTHING, "steps", "fit"), spin=0.001),
        Peer("numpy", "numpy_net", "`fastbp.reference` on NumPy's BLAS", spin=0.15),
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
            "`MLPClassifier.partial_fit` on the batch, `predict_proba`; `assume_finite`",
            spin=0.15,
        ),
        Peer("onnxruntime", "onnx_net", "sequential, the faster of `run` and io binding", ("predict",), spin=0.1),
    )
}
MEMORY = Peer("memory", "memory", "copying an array", ("copy",))  # no peer, but the same machinery measures it
