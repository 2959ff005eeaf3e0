"""ONNX Runtime: predictions of the same network as a graph of Gemm and Relu."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import Job
from benchmarks.problem import Problem

THREADS = 1


def open_peer(threads: int) -> dict[str, str]:
    global THREADS
    THREADS = threads
    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}


def model(problem: Problem) -> bytes:
    """The network with its weights, for batches of the problem's size."""
    element = TensorProto.FLOAT if problem.dtype == "float32" else TensorProto.DOUBLE
    nodes, constants, last = [], [], len(problem.weights) - 1
    for i, (w, b) in enumerate(zip(problem.weights, problem.biases, strict=True)):
        constants += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        z = "out" if i == last else f"z{i}"
        nodes.append(helper.make_node("Gemm", [f"h{i}", f"w{i}", f"b{i}"], [z]))
        if i < last:
            nodes.append(helper.make_node("Relu", [z], [f"h{i + 1}"]))
    x = helper.make_tensor_value_info("h0", element, [problem.batch, problem.layers[0]])
    out = helper.make_tensor_value_info("out", element, [problem.batch, problem.layers[-1]])
    graph = helper.make_graph(nodes, "mlp", [x], [out], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def quickest(calls: dict[str, Callable[[], Any]], seconds: float = 0.05) -> str:
    """The name of the call that takes the shortest time."""
    best = {}
    for name, call in calls.items():
        call()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        best[name] = min(times)
    return min(best, key=best.__getitem__)


def prepare(problem: Problem) -> Job:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model(problem), options, providers=["CPUExecutionProvider"])
    feed, names = {"h0": problem.x}, ["out"]
    binding = session.io_binding()
    binding.bind_cpu_input("h0", problem.x)
    binding.bind_output("out")
    calls = {
        "run": lambda: session.run(names, feed)[0],
        "io binding": lambda: session.run_with_iobinding(binding),
    }
    name = quickest(calls)
    return Job(
        calls[name],
        read=(lambda out: out) if name == "run" else (lambda _: binding.get_outputs()[0].numpy()),
        note=name,
    )
