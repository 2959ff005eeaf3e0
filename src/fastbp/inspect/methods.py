"""What networks tell about themselves."""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.data import Arrays
from fastbp.inspect.summary import summary_of
from fastbp.inspect.text import Text
from fastbp.inspect.trace import Trace, trace_of
from fastbp.network import Network


class Visible(Network):
    """A network that shows what it consists of and what it does. Not built by itself."""

    def summary(self) -> Text:
        """Return a table of all gates: what each gets and computes, shapes, parameters, operations, memory.

        Returns
        -------
        str
            It shows itself unquoted in an interactive session.

        Examples
        --------
        >>> import fastbp as fb
        >>> net = fb.Sequential([fb.Input(3), fb.Dense(4, "tanh"), fb.Dense(2)], seed=0)
        >>> print(*net.summary().splitlines()[2:6], sep=chr(10))
           gate   of  f     Z, O, delta  W with bias row  parameters  operations  memory
        0  input            (m, 3)
        1  dense  0   tanh  (m, 4)       (3+1, 4)                 16          48   128 B
        2  dense  1         (m, 2)       (4+1, 2)                 10          48    80 B
        """
        return summary_of(self)

    def trace(
        self,
        x: Arrays,
        y: Arrays | None = None,
        dout: Arrays | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> Trace:
        """Do one forward and one backward pass and take down what happens at every gate, see `inspect.trace.Trace`.

        In training mode, on a copy: the network stays as it is, its kept forward pass included. Values are the bits that the
        network itself computes, and so are gradients, but for roundings where branches meet: there, what each sends is kept
        apart. Of a layer with an activation, Z and O = f(Z) are both shown.

        Parameters
        ----------
        x, y : array-like, or lists of them for several inputs or outputs
            A batch, best a small one. With y, the way back begins with the network's loss.
        dout : array-like, or list of them, optional
            Without y: dE/dO, by default ones.
        names : sequence of str, optional
            What inputs are called; by default "x", or "x0", "x1" ...

        Returns
        -------
        Trace
            Printed, the passes written out; ``plot(path)`` draws the graph, ``dot()`` describes it to Graphviz.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            If an argument is not as above, or the network has no loss for y.

        Examples
        --------
        >>> import fastbp as fb
        >>> x, y, z = fb.Input(1), fb.Input(1), fb.Input(1)
        >>> m = fb.Model([x, y, z], (x + y) * z)
        >>> trace = m.trace([-2, 5, -4], names="xyz")
        >>> print(trace.steps[3].formula, trace["#3"].value.item(), trace["#3"].received.item())
        x + y 3.0 -4.0
        """
        return trace_of(self, x, y, dout, names)
