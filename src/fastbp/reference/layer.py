"""What layers have in common: called on a value they make a gate; in a network they hold live views of its parameters."""

from __future__ import annotations

import numpy.typing as npt

from fastbp.checks import NO_FORWARD, Array, boolean, gradient, positive, required, write_into
from fastbp.fixed import Fixed
from fastbp.reference.gate import Place
from fastbp.reference.network import NOTHING, Pass
from fastbp.rng import checked_seed
from fastbp.values import Value, checked

NOT_BUILT = "the layer has no weights yet: make it part of a network, or pass inputs= to a Dense that stands alone"
IN_NETWORK = "the layer is part of a network: call the network's method"


class LiveView:
    """Attribute that is a view of memory owned elsewhere: reading gives the view, assigning writes into it.

    So both ``layer.weight[...] = values`` and ``layer.weight -= step`` change the one vector of parameters.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the attribute's name: the view itself is stored beside it."""
        self.name = name
        self.slot = "_" + name

    def __get__(self, instance: object, owner: type | None = None) -> Array:
        """Return the view."""
        if not hasattr(instance, self.slot):
            raise AttributeError(f"{self.name}: {NOT_BUILT}")
        view: Array | None = getattr(instance, self.slot)
        if view is None:
            raise AttributeError(f"the layer has no {self.name}, got {instance!r}")
        return view

    def __set__(self, instance: object, value: npt.ArrayLike) -> None:
        """Write `value`, of the view's shape, into the view."""
        write_into(self.__get__(instance), value, self.name)


class Layer(Fixed):
    """What layers have in common: calling one on a value makes the gate it describes.

    Attributes
    ----------
    trainable : bool
        Whether training changes its parameters: True at first, may be set at any time. The gradients of a frozen layer are
        0; the error signal passes through it as before.
    in_network : bool
        Whether a network has it. A layer belongs to one network, and there to one place.
    inputs : int or None
        I, the columns of what it is called on, once it is known.
    """

    def __init__(self, inputs: int | None = None, seed: int | None = None) -> None:
        self.inputs = inputs if inputs is None else positive("inputs", inputs)
        self.seed = seed if seed is None else checked_seed(seed)
        self.own_seed = self.seed  # as given; `seed` becomes the one the weights were drawn with
        self._in_network = False
        self._trainable = True

    @property
    def in_network(self) -> bool:
        """Whether a network has it."""
        return self._in_network

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = boolean("trainable", value)

    def __call__(self, x: Value) -> Value:
        """Return what the layer makes of a value: that of a new gate."""
        checked("x", x)
        if self.in_network:
            raise ValueError(f"a layer belongs to one network, once, got {self!r} again")
        if self.inputs not in (None, x.width):
            raise ValueError(f"inputs must be {x.width}, what the layer below gives, got {self.inputs} of {self!r}")
        return self._gate(x)

    def _gate(self, x: Value) -> Value:
        raise NotImplementedError

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Return the initial W and state, in float64, for so many input columns; shapes as in `gate.Place`."""
        return NOTHING

    def join(self, place: Place) -> None:
        """Live at this place of a network."""
        self.inputs = place.value.inputs[0].width


class Alone(Layer):
    """A layer that can also be used alone: as a network of nothing else."""

    _pass: Pass | None = None

    def _run(self, x: npt.ArrayLike) -> Pass:
        raise NotImplementedError

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return O, shape (m, U), for X of shape (m, I), and keep what `backward` needs."""
        done = self._run(self._refused_in_network(x))
        self._pass = done
        return done.outputs[0].copy()

    def infer(self, x: npt.ArrayLike) -> Array:
        """Return the same O as `forward`, keeping nothing."""
        return self._run(self._refused_in_network(x)).outputs[0]

    def backward(self, dout: npt.ArrayLike) -> Array:
        """From dO, shape (m, U), compute dW, if there is a W; return dX, shape (m, I). W stays as it is."""
        self._refused_in_network(dout)
        done = required(self._pass, NO_FORWARD)
        dO = gradient(dout, done.outputs[0])
        return done.backward([dO], inputs=True)[0]

    def _refused_in_network(self, x: npt.ArrayLike) -> npt.ArrayLike:
        """Return x, or raise if the layer is part of a network."""
        if self.in_network:
            raise RuntimeError(IN_NETWORK)
        return x



class Input(Value):
    """The input of a network: rows of `features` numbers; a value, so layers and operators make a graph of it.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> x = fb.Input(784)
    >>> x
    Input(features=784)
    >>> fb.Dense(10)(x).width
    10
    """

    def __init__(self, features: int) -> None:
        super().__init__("input", (), positive("features", features))

    @property
    def features(self) -> int:
        """Columns of the input."""
        return self.width

    def __repr__(self) -> str:
        """Show the call that makes this input."""
        return f"Input(features={self.width})"
