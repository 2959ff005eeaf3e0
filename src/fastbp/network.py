"""Networks: the graph is checked and compiled, layers get their places, arrays go in and come out. `model` trains them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp._fastbp_core import Plan, predict
from fastbp.categories import categories_of
from fastbp.checks import Array, boolean, count, float_dtype, required, write_into
from fastbp.data import Arrays, Data
from fastbp.fixed import Fixed
from fastbp.graph import compile_graph
from fastbp.heads import NO_PROBABILITIES, LossLike, heads_of
from fastbp.layer_base import Layer, nodes_of, used_again
from fastbp.layers import Input
from fastbp.optimizers import Optimizer
from fastbp.rng import checked_seed, fresh_seed
from fastbp.values import Value, in_order

NO_OPTIMIZER = "the network has no optimizer: pass optimizer= to "
TWICE = "loss 'cross_entropy' takes logits, and the last layer is a softmax: it is applied twice; leave it out"


NO_OUTPUTS = ("input", "constant")  # gates whose values a plan hands out only after an identity


class Network(Fixed):
    """A compiled graph; what `Model` and `Sequential` share apart from training. Not built by itself."""

    layers: tuple[Any, ...]

    def _build(
        self,
        inputs: Input | Sequence[Input],
        outputs: Value | Sequence[Value],
        loss: LossLike | Sequence[LossLike] | None,
        optimizer: Optimizer | None,
        dtype: npt.DTypeLike,
        seed: int | None,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        """Compile the graph, and give its layers their places."""
        self.inputs = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
        self.outputs = tuple(outputs) if isinstance(outputs, (list, tuple)) else (outputs,)
        ends = [Value("activation", [end]) if getattr(end, "gate", "") in NO_OUTPUTS else end for end in self.outputs]
        self._values = _graph(self.inputs, ends)
        self._position = {value.number: i for i, value in enumerate(self._values)}
        self.loss = loss
        self.dtype = float_dtype(dtype)
        categories = categories_of(self._values, self.inputs, self.dtype)
        self.seed = fresh_seed() if seed is None else checked_seed(seed)
        self._optimizer = _checked_optimizer(optimizer)
        listed = isinstance(outputs, (list, tuple))
        self._heads = heads_of(loss, loss_weights, len(self.outputs), listed)
        for head, value in zip(self._heads, self.outputs, strict=False):
            if head.name == "cross_entropy" and value.activation == "softmax":
                warnings.warn(TWICE, stacklevel=3)
        self._at = [self._position[value.number] for value in ends]
        self._plan = compile_graph(
            nodes_of(self._values),
            self._at,
            dtype=self.dtype.name,
            losses=[head.objective for head in self._heads] or None,
            optimizer=None if optimizer is None else optimizer.row,
            seed=self.seed,
        )
        self._settle()
        if optimizer is not None:
            self._plan.set_hyper(*optimizer.hyper)
        self._data = Data(len(self.inputs), len(self.outputs), listed, self._heads, categories)
        self._epoch = 0  # epochs trained so far: each has a random order of its own
        # The hot paths: one array in, one out, and nothing to be looked at that the plan does not look at itself.
        self._single = len(self.inputs) == 1 and not listed
        self._plain = self._single and bool(self._heads) and optimizer is not None and not self._heads[0].weighs_classes
        self._fixed = True

    def _settle(self) -> None:
        """Give every layer its place and its initial values: all that can fail, before the first layer changes."""
        ready, drawn = [], 0
        for node, value in enumerate(self._values):
            layer = value.layer
            if layer is not None:
                seed, step = (self.seed, drawn) if layer.own_seed is None else (layer.own_seed, 0)
                drawn += layer.draws
                inputs = value.inputs[0].width
                ready.append((layer, node, inputs, seed, layer.initial(inputs, seed, step)))
        for layer, node, inputs, seed, initial in ready:
            layer.join(self._plan, node, inputs, seed, self.dtype, initial)
            layer._in_network = True

    @property
    def params(self) -> Array:
        """All parameters, a live view."""
        return self._plan.params()

    @params.setter
    def params(self, value: npt.ArrayLike) -> None:
        write_into(self.params, value, "params")

    @property
    def grads(self) -> Array:
        """Gradients of all parameters, a live view, filled by `backward`."""
        return self._plan.grads()

    @grads.setter
    def grads(self, value: npt.ArrayLike) -> None:
        write_into(self.grads, value, "grads")

    @property
    def state(self) -> Array:
        """Running statistics, means and deviations of all layers, a live view."""
        return self._plan.state()

    @state.setter
    def state(self, value: npt.ArrayLike) -> None:
        write_into(self.state, value, "state")

    @property
    def draws(self) -> int:
        """Forward passes in training so far, on which the masks of dropout depend; may be set."""
        return self._plan.draws

    @draws.setter
    def draws(self, value: int) -> None:
        self._plan.draws = count("draws", value)

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer. Another one of the same kind, with the same state, may be assigned, to change its numbers."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer) -> None:
        now = self._needed_optimizer()
        new = _checked_optimizer(value)
        if new is None or new.row != now.row:
            raise ValueError(f"optimizer must be of the same kind as {now!r}, got {value!r}")
        self._plan.set_hyper(*new.hyper)
        self._optimizer = new

    @property
    def plan(self) -> Plan:
        """The compiled graph: `isa`, `parameters`, `nbytes`, `operations(rows)` of a training step."""
        return self._plan

    def forward(self, *x: npt.ArrayLike, training: bool = True) -> Any:
        """Return the output O, shape (m, U), or the list of outputs; keep what the way back needs.

        Parameters
        ----------
        *x : array-like, shape (m, I)
            Rows for each input, in order. For an input of one column, (m,) or a single number will do.
        training : bool
            Whether dropout is on, and batch norm uses and learns the statistics of the batch.
        """
        boolean("training", training)
        if self._single and len(x) == 1:
            return self._plan.forward(x[0], training)
        return self._data.out(self._plan.forward(self._data.arguments(x), training))

    def _backward(self, dout: Arrays | None, inputs: bool) -> list[Array] | None:
        if dout is None:
            ones = [np.ones_like(self._plan.value(node)) for node in self._at]
            return self._plan.backward(ones if len(ones) > 1 else ones[0], inputs)
        return self._plan.backward(self._data.y("dout", dout), inputs)

    def predict(self, X: Arrays, out: Any = None, nodes: Value | Layer | Sequence[Value | Layer] | None = None) -> Any:
        """Return the outputs, shape (n, U), of any number of rows; with cross-entropy they are logits.

        What `forward` keeps is left alone.

        Parameters
        ----------
        X : array-like, shape (n, I)
            Rows; a list of arrays for several inputs.
        out : ndarray, optional
            C-contiguous, of that shape and the network's dtype: memory for the output, if there is one only; it must not
            overlap X.
        nodes : Value, Layer or sequence of them, optional
            Values of the graph, or layers for what they give: their activations are returned instead, in a list if `nodes`
            is a sequence.
        """
        if nodes is None and self._single:  # the hot path
            return predict(self._plan, X, out)
        x = self._data.x("X", X)
        if nodes is None:
            return self._data.out(self._plan.predict(x, out))
        if out is not None:
            raise ValueError(f"out must be None where nodes are asked for, got {type(out).__name__}")
        if isinstance(nodes, (list, tuple)):
            return self._plan.predict(x, None, [self._node(node) for node in nodes])
        return self._plan.predict(x, None, [self._node(nodes)])[0]

    def _node(self, node: Any) -> int:
        """Return the position of a value, or of what a layer gives."""
        if not isinstance(node, (Value, Layer)):
            raise TypeError(f"nodes must be values or layers of the network, got {node!r}")
        for i, value in enumerate(self._values):
            if node is value or node is value.layer:
                return i
        raise ValueError(f"nodes must be values or layers of this network, got {node!r}")

    def predict_proba(self, X: Arrays) -> Any:
        """Return the probabilities, shape (n, U), that outputs trained by cross-entropy are logits of.

        softmax(predict(X)) for "cross_entropy", where each row adds up to 1; sigmoid(predict(X)) for "binary_cross_entropy".
        """
        if not self._heads:
            raise RuntimeError(f"{NO_PROBABILITIES}, got no loss")
        out = self.predict(X)
        if not self._data.listed:
            return self._heads[0].probabilities(out)
        return [head.probabilities(part) for head, part in zip(self._heads, out, strict=True)]

    def update(self) -> None:
        """Let the optimizer change all weights by `grads`: with SGD, W = W - learning_rate * dW.

        Clipping, penalties, weight decay and max_norm are the same as in training; `accumulate` is not: `grads` are taken as
        they are.
        """
        self._needed_optimizer()
        self._plan.update()

    def _needed_optimizer(self) -> Optimizer:
        return required(self._optimizer, NO_OPTIMIZER + type(self).__name__)


def _checked_optimizer(value: Optimizer | None) -> Optimizer | None:
    if value is not None and not isinstance(value, Optimizer):
        raise TypeError(f"optimizer must be one of fastbp, as SGD(...), got {value!r} of {type(value).__module__}")
    return value


def _graph(inputs: Sequence[Input], outputs: Sequence[Value]) -> list[Value]:
    """Return the inputs in the order given, then all else that outputs depend on; raise if this is no network."""
    for name, values, needed in (("inputs", inputs, Input), ("outputs", outputs, Value)):
        for i, value in enumerate(values):
            if not isinstance(value, needed):
                what = "Input(features), or a list of them" if needed is Input else "a value, or a list of them"
                raise TypeError(f"{name} must be {what}, got {value!r}")
            if any(value is other for other in values[:i]):
                raise ValueError(f"{name} must be different, got {value!r} again")
        if not values:
            raise ValueError(f"{name} must hold at least one value, got none")
    order = in_order(outputs)
    for value in order:
        if value.gate == "input" and not any(value is known for known in inputs):
            users = [repr(other) for other in order if value in other.inputs] or ["outputs"]
            raise ValueError(f"inputs must hold every input that outputs depend on, got none for the {value!r} of {users[0]}")
    for value in inputs:
        if not any(value is used for used in order):
            raise ValueError(f"inputs must be used: no output depends on it, got {value!r}")
    layers: set[int] = set()
    for value in order:
        if value.layer is not None:
            if not isinstance(value.layer, Layer):
                found = f"{value.layer!r} of {type(value.layer).__module__}"
                raise TypeError(f"outputs must be made of layers of fastbp, got {found}")
            if value.layer.in_network or id(value.layer) in layers:
                raise ValueError(used_again(value.layer))
            layers.add(id(value.layer))
    return [*inputs, *(value for value in order if value.gate != "input")]
