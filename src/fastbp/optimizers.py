"""Optimizers: descriptions; the arithmetic is a row of the table in csrc/kernels/optimizer.h.

g is the gradient of one batch; all state begins at 0. The forms are PyTorch's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastbp.settings import Settings


@dataclass(frozen=True, repr=False)
class Optimizer(Settings):
    """What all optimizers have in common: what becomes of g, the gradient of a batch, before it is used.

    First it is clipped, then the gradient of the `penalty` is added. What is clipped is thus the gradient of the data alone.
    `Sequential.update` does the same with `grads` as they are; `accumulate` is about `train_step` and `fit`, which add up
    gradients in `grads` until there are enough for an update. `backward` and `update`, by hand, start the count anew.

    Parameters
    ----------
    learning_rate : float
        0 <= learning_rate < infinity.
    l2 : float
        0 <= l2 < infinity: l2 * W is added to g, as the gradient of l2 / 2 * sum W^2 in the loss.
    l1 : float
        0 <= l1 < infinity: l1 * sign(W), 0 for W = 0, is added to g, as the gradient of l1 * sum |W| in the loss.
    decay_biases : bool
        Whether l2, l1 and weight_decay also act on biases.
    clip_norm : float, optional
        Above 0: if the norm of g, over all parameters, is larger, g is multiplied by clip_norm / norm. If the norm is not a
        number, neither is g.
    clip_value : float, optional
        Above 0: each element of g is limited to -clip_value .. clip_value. Not together with clip_norm.
    accumulate : int
        At least 1: training steps for each update, which takes the mean of their gradients for g. Those that the end of an
        epoch or of `fit` leaves over count in the next.
    max_norm : float, optional
        Above 0: after each update, the weights into a unit, a column of `weight` without its bias, are multiplied by
        max_norm / norm if their norm is larger [1]_.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    TypeError
        If it is not of its type.

    References
    ----------
    .. [1] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: a simple way to prevent neural
       networks from overfitting", Journal of Machine Learning Research 15, 1929-1958, 2014.
    """

    learning_rate: float = 0.01

    @property
    def row(self) -> str:
        """Name of its row in the table of optimizers."""
        return type(self).__name__.lower().removesuffix("w")

    @property
    def betas(self) -> tuple[float, float]:
        """What the means of g and of g^2 keep of themselves."""
        return 0.0, 0.0

    @property
    def hyper(self) -> tuple[float, ...]:
        """Numbers the row takes, in the order of enum fbp_hyper; 0 is none."""
        own = self.learning_rate, *self.betas, getattr(self, "eps", 0.0)
        decay = self.l2, self.l1, getattr(self, "weight_decay", 0.0), self.decay_biases
        return (*own, *decay, self.clip_norm or 0.0, self.clip_value or 0.0, self.accumulate, self.max_norm or 0.0)


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum * v + g, W = W - learning_rate * v.

    With nesterov, W = W - learning_rate * (g + momentum * v) instead. The learning rate is outside of v, so changing it
    acts at once. With momentum 0, v is g and takes no memory.

    Parameters
    ----------
    learning_rate : float
        0 <= learning_rate < infinity.
    momentum : float
        0 <= momentum < 1: the share of the last step's direction that is kept.
    nesterov : bool
        Whether to take the gradient's step from where momentum leads; needs momentum > 0.
    weight_decay : float
        0 <= weight_decay < infinity: W = W - learning_rate * weight_decay * W, apart from the gradient.
    l2, l1, decay_biases, clip_norm, clip_value, accumulate, max_norm
        Keywords, which all optimizers have: see `Optimizer`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    TypeError
        If it is not of its type.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Computational Mathematics and
    Mathematical Physics 4 (5), 1-17, 1964. I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of
    initialization and momentum in deep learning", ICML 2013 (Nesterov's form).

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9)
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = field(default=0.0, kw_only=True)

    @property
    def row(self) -> str:
        """Name of its row in the table of optimizers."""
        return "nesterov" if self.nesterov else "momentum" if self.momentum else "sgd"

    @property
    def betas(self) -> tuple[float, float]:
        """Momentum."""
        return self.momentum, 0.0


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adaptive moments: W = W - learning_rate * M / (sqrt(V) + eps), with M and V the unbiased means of g and g^2.

    In step t = 1, 2, ...: m = beta1 * m + (1 - beta1) * g, v = beta2 * v + (1 - beta2) * g^2, M = m / (1 - beta1^t),
    V = v / (1 - beta2^t). Both corrections are folded into two numbers per step, learning_rate * sqrt(1 - beta2^t) /
    (1 - beta1^t) and eps * sqrt(1 - beta2^t), so that an element costs one square root and one division. t counts the updates
    of the network: a layer that was frozen for long begins with means of 0, which are taken for settled ones, so that its first
    steps are up to a few times as large.

    Parameters
    ----------
    learning_rate : float
        0 <= learning_rate < infinity: about the largest change of a weight in a step.
    beta1, beta2 : float
        0 <= beta < 1: how much of the means of g and of g^2 is kept.
    eps : float
        0 < eps < infinity.
    l2, l1, decay_biases, clip_norm, clip_value, accumulate, max_norm
        Keywords, which all optimizers have: see `Optimizer`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    TypeError
        If it is not of its type.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Adam(3e-4, beta2=0.99)
    Adam(learning_rate=0.0003, beta2=0.99)
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def betas(self) -> tuple[float, float]:
        """Both."""
        return self.beta1, self.beta2


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: W = W - learning_rate * (M / (sqrt(V) + eps) + weight_decay * W).

    The decay is apart from M and V, which are those of `Adam`; with l2 instead, it would be divided by sqrt(V) as well.

    Parameters
    ----------
    learning_rate, beta1, beta2, eps
        As for `Adam`.
    weight_decay : float
        0 <= weight_decay < infinity.
    l2, l1, decay_biases, clip_norm, clip_value, accumulate, max_norm
        Keywords, which all optimizers have: see `Optimizer`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    TypeError
        If it is not of its type.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.AdamW(3e-4, weight_decay=0.1, clip_norm=1.0)
    AdamW(learning_rate=0.0003, clip_norm=1.0, weight_decay=0.1)
    """

    weight_decay: float = field(default=0.01, kw_only=True)


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """Steps by the root of the mean square: s = alpha * s + (1 - alpha) * g^2, W = W - learning_rate * g / (sqrt(s) + eps).

    Parameters
    ----------
    learning_rate : float
        0 <= learning_rate < infinity.
    alpha : float
        0 <= alpha < 1: how much of the mean of g^2 is kept.
    eps : float
        0 < eps < infinity.
    l2, l1, decay_biases, clip_norm, clip_value, accumulate, max_norm
        Keywords, which all optimizers have: see `Optimizer`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    TypeError
        If it is not of its type.

    References
    ----------
    T. Tieleman and G. Hinton, "Lecture 6.5: RMSProp, divide the gradient by a running average of its recent magnitude",
    COURSERA: Neural Networks for Machine Learning, 2012.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.RMSprop(alpha=0.9)
    RMSprop(learning_rate=0.001, alpha=0.9)
    """

    learning_rate: float = 1e-3
    alpha: float = 0.99
    eps: float = 1e-8

    @property
    def betas(self) -> tuple[float, float]:
        """The mean of g^2 only."""
        return 0.0, self.alpha


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Steps by the root of the sum of squares: s = s + g^2, W = W - learning_rate * g / (sqrt(s) + eps).

    Parameters
    ----------
    learning_rate : float
        0 <= learning_rate < infinity.
    eps : float
        0 < eps < infinity.
    l2, l1, decay_biases, clip_norm, clip_value, accumulate, max_norm
        Keywords, which all optimizers have: see `Optimizer`.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    TypeError
        If it is not of its type.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
    Journal of Machine Learning Research 12, 2121-2159, 2011.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Adagrad()
    Adagrad(learning_rate=0.01)
    """

    eps: float = 1e-10
