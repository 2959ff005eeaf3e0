"""Losses: the oracle against numerical differences, kernels against the oracle, bits, weights, kinks, extreme numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from bounds import Bounded, Rounding
from cases import DTYPES, FMA_ISAS, ISAS, Array, around, assert_same_bits, integers, numbers, two_fma_isas
from loss_bounds import bounded_loss
from numeric import sides_of_loss

import fastbp as fb
import fastbp.reference as ref
from fastbp._fastbp_core import LOSSES
from fastbp.graph import Node, Objective, compile_graph

# Every loss, and every setting that is not the usual one.
CASES: list[tuple[str, dict[str, float]]] = [
    *((name, {}) for name in LOSSES),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("huber", {"delta": 0.3}),
    ("quantile", {"level": 0.9}),
    ("hinge", {"margin": 0.25}),
    ("binary_hinge", {"margin": 0.0}),
]
# What the targets of a loss may be; "probabilities" where nothing is said.
TARGETS = {
    "cross_entropy": ("labels", "one_hot", "probabilities"),
    "hinge": ("labels", "one_hot"),
    "binary_cross_entropy": ("probabilities", "yes_or_no"),
    "binary_hinge": ("signs", "yes_or_no"),
    "poisson": ("counts",),
}
EVEN = ("gaussian_nll",)  # losses of an even number of outputs
WIDTHS = around(4, 8, 16, 32, most=100)
ROWS = (1, 2, 9, 17)

kernels = pytest.mark.parametrize(
    "isa, dtype", [pytest.param(isa, dtype, id=f"{isa}-{dtype}") for isa in ISAS for dtype in DTYPES]
)
losses = pytest.mark.parametrize(
    "name, settings", [pytest.param(*case, id="-".join([case[0], *map(str, case[1].values())])) for case in CASES]
)


def loss_of(package: Any, name: str, settings: dict[str, float]) -> Any:
    """The description, by class name: SquaredError for squared_error."""
    return package.losses.LOSSES[name](**settings)


def problem(name: str, target: str, rows: int, width: int, dtype: str, seed: int = 0) -> tuple[Array, Array]:
    """Outputs and targets; outputs of -3 to 3, so that all sides of all kinks occur."""
    width = 2 * width if name in EVEN else width
    out = 3 * numbers(rows, width, seed=seed, dtype=dtype)
    width = width // 2 if name in EVEN else width
    labels = np.abs(integers(rows, most=width - 1, seed=seed + 1))
    values = numbers(rows, width, seed=seed + 2, dtype=dtype)
    y = {
        "labels": labels,
        "one_hot": np.eye(width)[labels],
        "probabilities": np.abs(values),
        "yes_or_no": 1.0 * (values > 0),
        "signs": np.sign(values),
        "counts": np.abs(integers(rows, width, most=5, seed=seed + 2)),
    }[target]
    return out, y


def targets_of(name: str) -> tuple[str, ...]:
    return TARGETS.get(name, ("probabilities",))


def weights_of(rows: int) -> Array:
    """Some of them 0, some equal; the first not 0."""
    weights = np.floor(4 * np.abs(numbers(rows, seed=5))) / 3
    weights[0] = 0.7
    return weights


def compare(got: tuple[float, Array], wanted: tuple[float, Array], bounds: list[tuple[Bounded, Bounded]]) -> None:
    """E and dO within the bounds of both programs, which, but for elements at kinks, mean something."""
    for k, (one, other) in enumerate(zip(got, wanted, strict=True)):
        error = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
        bound = bounds[0][k].error + bounds[1][k].error
        assert error.shape == bound.shape
        assert np.all(error <= bound), f"{('E', 'dO')[k]}: off by {np.max(error / bound)} bounds"


def bounds_of(name: str, out: Array, y: Array, settings: dict[str, float], weights: Array | None, dtype: str) -> Any:
    parameter = next(iter(settings.values()), None)
    both = [Rounding(kind) for kind in (dtype, "float64")]
    return [bounded_loss(name, in_.exact(out), np.asarray(y), parameter, weights) for in_ in both]


# The oracle --------------------------------------------------------------------------------------------


@losses
def test_oracle_is_the_derivative(name: str, settings: dict[str, float]) -> None:
    """Central differences, as in numeric.py, of every element that is at no kink."""
    for target in targets_of(name):
        loss = loss_of(ref, name, settings)
        out, y = problem(name, target, 5, 4, "float64")
        weights = weights_of(5)
        parameter = loss.parameter if loss.parameter is not None else 1.0
        _, dO = loss(out, y, sample_weight=weights)
        noise = float(bounds_of(name, out, y, settings, weights, "float64")[1][0].error)
        side = sides_of_loss(name, out, y, parameter)
        h = np.cbrt(np.finfo(np.float64).eps)
        tested = 0
        for at in np.ndindex(out.shape):
            E, same = {}, True
            for k in (-2, -1, 1, 2):
                moved = out.copy()
                moved[at] += k * h
                E[k] = loss(moved, y, sample_weight=weights)[0]
                same &= sides_of_loss(name, moved, y, parameter) == side
            near, far = (E[1] - E[-1]) / (2 * h), (E[2] - E[-2]) / (4 * h)
            step = np.finfo(np.float64).eps * 8 / h  # moved[at] is rounded: relative to h
            bound = abs(far - near) + 2 * noise / h + step * abs(dO[at])
            if same:
                tested += 1
                assert abs(near - dO[at]) <= bound, at
                assert bound < np.sqrt(np.finfo(np.float64).eps) * max(1, np.abs(dO).max())
        assert tested > out.size / 2


@pytest.mark.parametrize("name", LOSSES)
def test_oracle_is_the_same_by_rows_and_by_name(name: str) -> None:
    """E is the weighted mean of the losses of single rows; the function is the description."""
    out, y = problem(name, targets_of(name)[0], 6, 3, "float64")
    w = weights_of(6)
    loss = ref.losses.loss_named(name)
    E, dO = loss(out, y, sample_weight=w)
    again = getattr(ref.losses, name)(out, y, sample_weight=w)
    assert again[0] == E
    assert_same_bits(dO, again[1])
    single = [loss(out[i : i + 1], y[i : i + 1]) for i in range(6)]
    eps = np.finfo(np.float64).eps
    assert math.isclose(E, math.fsum(a * e for a, (e, _) in zip(w, single, strict=True)) / w.sum(), rel_tol=16 * eps)
    rows = np.vstack([a / w.sum() * d for a, (_, d) in zip(w, single, strict=True)])
    np.testing.assert_allclose(dO, rows, rtol=4 * eps, atol=0)


# Kernels -----------------------------------------------------------------------------------------------


@losses
@kernels
def test_kernels_against_the_oracle(
    isa: str, dtype: str, name: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTBP_ISA", isa)
    fast, slow = loss_of(fb, name, settings), loss_of(ref, name, settings)
    for width in WIDTHS:
        for target in targets_of(name):
            rows = ROWS[width % len(ROWS)]
            out, y = problem(name, target, rows, width, dtype, seed=width)
            for weights in (None, weights_of(rows)):
                got = fast(out, y, sample_weight=weights)
                assert got[1].dtype == np.dtype(dtype)
                wanted = slow(out.astype(np.float64), y, sample_weight=weights)
                compare(got, wanted, bounds_of(name, out, y, settings, weights, dtype))


@losses
@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_mean_something(dtype: str, name: str, settings: dict[str, float]) -> None:
    """A gradient or a loss wrong by a small part of itself is noticed."""
    out, y = problem(name, targets_of(name)[0], 9, 12, dtype)
    slow = loss_of(ref, name, settings)(out.astype(np.float64), y)
    E, dO = loss_of(fb, name, settings)(out, y)
    bounds = bounds_of(name, out, y, settings, None, dtype)
    wrong = 1 + np.finfo(dtype).eps ** (1 / 2)
    compare((E, dO), slow, bounds)
    with pytest.raises(AssertionError, match="E: off by"):
        compare((wrong * E, dO), slow, bounds)
    with pytest.raises(AssertionError, match="dO: off by"):
        compare((E, dO * np.array(wrong, dtype)), slow, bounds)


@two_fma_isas
@losses
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits(dtype: str, name: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    loss = loss_of(fb, name, settings)
    for width in [*range(1, 70), 1000]:
        rows = ROWS[width % len(ROWS)]
        for target in targets_of(name):
            out, y = problem(name, target, rows, width, dtype, seed=width)
            for weights in (None, weights_of(rows)):
                results = []
                for isa in FMA_ISAS:
                    monkeypatch.setenv("FASTBP_ISA", isa)
                    results.append(loss(out, y, sample_weight=weights))
                for value, dout in results[1:]:
                    assert_same_bits(np.float64(value), np.float64(results[0][0]), width)
                    assert_same_bits(dout, results[0][1], width)


# Weights -----------------------------------------------------------------------------------------------


@losses
@kernels
def test_weights_of_one_change_no_bit(
    isa: str, dtype: str, name: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And rows that weigh 0 change none of the others: what is left of a batch is what it is without them."""
    monkeypatch.setenv("FASTBP_ISA", isa)
    loss = loss_of(fb, name, settings)
    for width in (1, 3, 10, 17, 33, 70):
        for target in targets_of(name):
            out, y = problem(name, target, 21, width, dtype)
            plain, ones = loss(out, y), loss(out, y, sample_weight=np.ones(21))
            assert plain[0] == ones[0]
            assert_same_bits(plain[1], ones[1])
            some = np.arange(21) % 3 != 1
            left, dleft = loss(out, y, sample_weight=some)
            alone, dalone = loss(out[some], y[some])
            assert left == alone
            assert_same_bits(dleft[some], dalone)
            assert not dleft[~some].any()


@losses
@kernels
def test_a_row_is_what_it_is_alone(
    isa: str, dtype: str, name: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every number of columns that rows may be taken at once for; the row alone is taken by itself."""
    monkeypatch.setenv("FASTBP_ISA", isa)
    loss = loss_of(fb, name, settings)
    for width in range(1, 36):
        for target in targets_of(name):
            out, y = problem(name, target, 19, width, dtype, seed=width)
            for row in (0, 7, 18):
                only = np.arange(19) == row
                value, dout = loss(out, y, sample_weight=only)
                alone, dalone = loss(out[only], y[only])
                assert value == alone
                assert_same_bits(dout[only], dalone, width)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("package", [fb, ref], ids=["fastbp", "reference"])
def test_weights_that_are_all_zero(package: Any, name: str) -> None:
    out, y = problem(name, targets_of(name)[0], 5, 3, "float32")
    E, dO = package.losses.loss_named(name)(out, y, sample_weight=np.zeros(5))
    assert E == 0 and not dO.any() and dO.shape == out.shape and dO.dtype == out.dtype


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_any_size_and_type(name: str) -> None:
    """Only ratios count: powers of 2 change no bit. Integers and booleans are weights, too, in any layout."""
    out, y = problem(name, targets_of(name)[0], 6, 5, "float32")
    loss = fb.losses.loss_named(name)
    weights = np.array([3, 1, 0, 2, 2, 1])
    E, dO = loss(out, y, sample_weight=weights)
    for same in (weights / 2.0**100, weights * 2.0**100, weights.tolist(), weights.astype(">f4"), np.repeat(weights, 2)[::2]):
        again = loss(out, y, sample_weight=same)
        assert again[0] == E
        assert_same_bits(again[1], dO)
    assert loss(out, y, sample_weight=weights > 0)[0] == loss(out, y, sample_weight=1.0 * (weights > 0))[0]


@losses
@pytest.mark.parametrize("dtype", DTYPES)
def test_plans_have_the_same_losses(dtype: str, name: str, settings: dict[str, float]) -> None:
    """The loss of a training step, with its parameter and weights of the rows, is that of the output by hand: every bit."""
    loss = loss_of(fb, name, settings)
    for rows in (1, 21, 4096 + 3):
        for target in targets_of(name):
            y = problem(name, target, rows, 5, dtype)[1]
            nodes = [Node("input", (), 3), Node("dense", (0,), 10 if name in EVEN else 5)]
            objective = Objective(loss.row, loss.parameter)
            plan = compile_graph(nodes, dtype=dtype, losses=[objective], optimizer="sgd")
            plan.params()[:] = numbers(plan.parameters, dtype=dtype)
            x = numbers(rows, 3, seed=1, dtype=dtype)
            for weights in (None, weights_of(rows), np.zeros(rows)):
                E, dO = loss(plan.forward(x), y, sample_weight=weights)
                plan.backward(dO, False)
                grads = plan.grads().copy()
                before = plan.params().copy()
                plan.set_hyper(1.0)
                assert plan.train_step(x, y, weights) == E
                assert_same_bits(plan.params(), before - grads)


# Kinks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", [fb, ref], ids=["fastbp", "reference"])
def test_slopes_at_kinks(package: Any) -> None:
    """PyTorch's: the sign of 0 is 0, a margin that is met exactly is met, Huber's parabola and line have the same slope."""
    losses = package.losses
    for y in ([[0.5]], [[-2.0]]):
        assert losses.absolute_error(y, y) == (0, [[0]])
        assert losses.quantile(y, y, level=0.75) == (0, [[0]])
        assert losses.log_cosh(y, y) == (0, [[0]])
    assert losses.huber([[2.0], [-2.0]], [[0.0], [0.0]], delta=2.0)[1].tolist() == [[1], [-1]]
    assert losses.hinge([[3.0, 2.0, 1.0]], [0])[1].tolist() == [[0, 0, 0]]
    assert losses.hinge([[3.0, 2.0, 1.0]], [0], margin=1.5)[1].tolist() == [[-1, 1, 0]]
    assert losses.binary_hinge([[1.0], [-1.0]], [1, 0])[1].tolist() == [[0], [0]]
    assert losses.binary_hinge([[0.0]], [0], margin=0.0) == (0, [[0]])
    assert losses.hinge([[1.0, 3.0]], [[0.5, 0.5]])[0] == 3  # of equal targets, the first is the class's


# Extremes ----------------------------------------------------------------------------------------------

SIZES = (0.0, 1e-37, 1e-20, 1e-3, 0.5, 1.0, 30.0, 88.0, 90.0, 200.0, 700.0, 1e5, 1e19, 1e30, 3.4e38)
EXTREMES = [sign * size for size in SIZES for sign in (1, -1)]


def extreme_targets(name: str) -> list[float]:
    if name == "binary_cross_entropy":
        return [0.0, 1e-30, 0.5, 1.0]
    if name == "poisson":
        return [size for size in SIZES if size >= 0]
    return EXTREMES


def extremes(name: str) -> list[tuple[Array, Array]]:
    """Rows of outputs and targets of float32 from everywhere."""
    if name in ("cross_entropy", "hinge"):
        pairs = [np.array([[a, b, 0.0]], np.float32) for a in EXTREMES for b in EXTREMES]
        return [(out, np.array([k % 3])) for k, out in enumerate(pairs)]
    if name == "gaussian_nll":
        logs = [value for value in EXTREMES if abs(value) > 0.1]
        return [(np.array([[a, s]], np.float32), np.array([[t]], np.float32)) for a in EXTREMES for s in logs for t in (a, 1.0)]
    return [
        (np.array([[a, 1.0]], np.float32), np.array([[t, 0.0]], np.float32)) for a in EXTREMES for t in extreme_targets(name)
    ]


@losses
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")
def test_finite_inputs_have_finite_losses(
    isa: str, name: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever float64 has room for the loss, so does the kernel for float32, and it is right."""
    monkeypatch.setenv("FASTBP_ISA", isa)
    fast, slow = loss_of(fb, name, settings), loss_of(ref, name, settings)
    finite = 0
    for out, y in extremes(name):
        E, dO = fast(out, y)
        right, dright = slow(out.astype(np.float64), y)
        if not math.isfinite(right):
            assert right == math.inf == E, (out, y)
            continue
        finite += 1
        bounds = bounds_of(name, out, y, settings, None, "float32")
        with np.errstate(over="ignore"):
            visible = np.abs(dright.astype(np.float32)) < np.inf  # what a float32 can hold
        assert math.isfinite(E), (out, y)
        assert not np.isnan(dO).any(), (out, y)
        assert np.array_equal(np.isinf(dO)[~visible], np.ones((~visible).sum(), bool)), (out, y)
        slack = [(b[0], Bounded(np.where(visible, b[1].value, 0), np.where(visible, b[1].error, 0), b[1].in_)) for b in bounds]
        compare((E, np.where(visible, dO, 0)), (right, np.where(visible, dright, 0)), slack)
    assert finite > 100


def test_extremes_by_hand() -> None:
    losses, f = fb.losses, np.float32
    assert losses.squared_error(f([[1e30]]), f([[-1e30]]))[0] == 2 * float(f(1e30)) ** 2
    assert losses.absolute_error(f([[3e38, 3e38]]), f([[-3e38, -3e38]])) == (4 * float(f(3e38)), pytest.approx(1, rel=0))
    assert losses.cross_entropy(f([[3e38, -3e38]]), [1])[0] == 2 * float(f(3e38))
    assert losses.cross_entropy(f([[3e38, -3e38]]), [0])[0] == 0
    assert losses.gaussian_nll(f([[1.0, -1e30]]), f([[1.0]]))[0] == -float(f(1e30)) / 2
    assert losses.poisson(f([[-3e38]]), [[0.0]])[0] == 0
    assert losses.hinge(f([[-3e38, 3e38]]), [0])[0] == 2 * float(f(3e38))


@losses
@kernels
def test_nan_in_nan_out(
    isa: str, dtype: str, name: str, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTBP_ISA", isa)
    loss = loss_of(fb, name, settings)
    for width in (1, 2, 5, 16, 17, 40):
        for target in targets_of(name):
            if (name, width) == ("hinge", 1):
                continue  # a single class is always right
            out, y = problem(name, target, 3, width, dtype)
            for place in {0, out.shape[1] // 2, out.shape[1] - 1}:
                spoilt = out.copy()
                spoilt[1, place] = np.nan
                E, dO = loss(spoilt, y)
                assert math.isnan(E) and np.isnan(dO[1, place]), (width, place)
                assert np.isfinite(dO[[0, 2]]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", LOSSES)
def test_targets_that_are_not_finite_stop_training(name: str, bad: float) -> None:
    """They must show in the loss, since training looks for them only where the loss is not finite."""
    net = fb.Sequential([fb.Input(2), fb.Dense(6)], name, fb.SGD(0.1), seed=0)
    before = net.params.copy()
    y = np.ones((4, 3 if name in EVEN else 6), np.float32)
    y[2, 1] = bad
    with pytest.raises(ValueError, match=r"y must be finite in float32.*, got .* in row 2"):
        net.train_step(numbers(4, 2), y)
    assert_same_bits(net.params, before)


# PyTorch -----------------------------------------------------------------------------------------------


def torch_loss(torch: Any, name: str, settings: dict[str, float], out: Any, y: Any) -> Any:
    """The losses of all rows, summed over the columns."""
    F = torch.nn.functional
    by_element = {
        "squared_error": lambda: F.mse_loss(out, y, reduction="none") / 2,
        "absolute_error": lambda: F.l1_loss(out, y, reduction="none"),
        "huber": lambda: F.huber_loss(out, y, reduction="none", delta=settings.get("delta", 1.0)),
        "binary_cross_entropy": lambda: F.binary_cross_entropy_with_logits(out, y, reduction="none"),
        "poisson": lambda: F.poisson_nll_loss(out, y, log_input=True, full=False, reduction="none"),
        "gaussian_nll": lambda: F.gaussian_nll_loss(
            out[:, : y.shape[1]], y, torch.exp(out[:, y.shape[1] :]), full=False, reduction="none", eps=0
        ),
    }
    d = y - out if y.shape == out.shape else None
    by_element |= {
        "log_cosh": lambda: d + F.softplus(-2 * d) - math.log(2),
        "quantile": lambda: torch.maximum(settings.get("level", 0.5) * d, (settings.get("level", 0.5) - 1) * d),
        "binary_hinge": lambda: F.relu(settings.get("margin", 1.0) - torch.where(y > 0, 1.0, -1.0) * out),
    }  # which it has no name for
    if name == "cross_entropy":
        return F.cross_entropy(out, y, reduction="none", **settings)
    if name == "hinge":
        labels = y if y.ndim == 1 else y.argmax(dim=1)
        return out.shape[1] * F.multi_margin_loss(out, labels, reduction="none", **settings)
    return by_element[name]().sum(dim=1)


@losses
def test_losses_are_those_of_torch(name: str, settings: dict[str, float]) -> None:
    """Values and gradients in float64, with weights; within twice the bound of one program."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its losses are not compared")
    for target in targets_of(name):
        out, y = problem(name, target, 9, 7, "float64")
        weights = weights_of(9)
        leaf = torch.tensor(out, requires_grad=True)
        rows = torch_loss(torch, name, settings, leaf, torch.tensor(y))
        w = torch.tensor(weights)
        E = (w * rows).sum() / w.sum()
        E.backward()
        theirs = float(E.detach()), leaf.grad.numpy()
        bounds = bounds_of(name, out, y, settings, weights, "float64")
        for package in (fb, ref):
            compare(loss_of(package, name, settings)(out, y, sample_weight=weights), theirs, bounds)
