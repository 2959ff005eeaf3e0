"""Descriptions of losses: settings, class weights, sample weights; what is refused, and with which words. Both libraries."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import assert_same_bits, integers, numbers

import fastbp as fb
import fastbp.reference as ref
from fastbp._fastbp_core import LOSSES
from fastbp.loss_settings import LossSettings

CLASSES = ("CrossEntropy", "BinaryCrossEntropy", "Hinge", "BinaryHinge")
PARAMETERS = {
    "Huber": ("delta", 1.0, (0.0, -1.0, math.inf, math.nan)),
    "Quantile": ("level", 0.5, (0.0, 1.0, math.nan)),
    "CrossEntropy": ("label_smoothing", 0.0, (-0.1, 1.0, math.nan)),
    "Hinge": ("margin", 1.0, (-0.1, math.inf, math.nan)),
    "BinaryHinge": ("margin", 1.0, (-0.1, math.inf, math.nan)),
}


def names(library: ModuleType) -> dict[str, type[LossSettings]]:
    return {cls.__name__: cls for cls in library.losses.LOSSES.values()}


def test_descriptions_are_twins() -> None:
    fast, slow = names(fb), names(ref)
    assert list(fast) == list(slow) and tuple(fb.losses.LOSSES) == tuple(ref.losses.LOSSES) == LOSSES
    for name, cls in fast.items():
        assert getattr(fb.losses, name) is cls and getattr(ref.losses, name) is slow[name]
        one, other = cls(), slow[name]()
        assert (one.row, one.parameter, repr(one)) == (other.row, other.parameter, repr(other))


def test_parameters(library: ModuleType) -> None:
    for name, cls in names(library).items():
        setting, usual, bad = PARAMETERS.get(name, ("", None, ()))
        assert cls().parameter == usual
        if usual is None:
            continue
        given = cls(**{setting: 0.25})
        assert given.parameter == 0.25 and repr(given) == f"{name}({setting}=0.25)"
        assert given == cls(**{setting: 0.25}) and given != cls() and hash(given) == hash(cls(**{setting: 0.25}))
        for value in bad:
            with pytest.raises(ValueError, match=f"{setting} must be .*, got {value}"):
                cls(**{setting: value})
        with pytest.raises(TypeError, match=f"{setting} must be a real number, got str"):
            cls(**{setting: "1"})
        with pytest.raises(TypeError):
            cls(0.25)  # type: ignore[call-arg]  # by keyword only
        with pytest.raises(AttributeError):
            given.parameter = 1.0  # type: ignore[misc]


def test_usual_parameters_are_those_of_the_table() -> None:
    """A network takes them from the table of kernels, the function from the description."""
    x, y = numbers(5, 3), np.abs(numbers(5, 4, seed=1))
    for name in LOSSES:
        net = fb.Sequential([fb.Input(3), fb.Dense(8 if name == "gaussian_nll" else 4)], name, fb.SGD(0.1), seed=0)
        E = fb.losses.loss_named(name)(net.forward(x), y)[0]
        assert net.train_step(x, y) == E


def test_loss_named(library: ModuleType) -> None:
    losses = library.losses
    for name in LOSSES:
        assert losses.loss_named(name) == losses.LOSSES[name]()
    loss = losses.Huber(delta=2.0)
    assert losses.loss_named(loss) is loss
    with pytest.raises(ValueError, match=r"loss must be one of squared_error, cross_entropy, .*, got 'mse'"):
        losses.loss_named("mse")
    for wrong in (None, 3, losses.Huber, losses.huber):
        with pytest.raises(TypeError, match="loss must be a name or a description"):
            losses.loss_named(wrong)


# Class weights -----------------------------------------------------------------------------------------


def test_class_weights_are_those_of_scikit_learn(library: ModuleType) -> None:
    reason = "scikit-learn is not installed: its weights are not compared"
    utils = pytest.importorskip("sklearn.utils.class_weight", reason=reason)
    labels = np.array([0, 0, 3, 1, 3, 3, 0, 0, 0])
    given = np.linspace(0, 2, 9)
    for class_weight in ("balanced", {0: 2.0, 3: 0.5}, {1: 0}):
        wanted = utils.compute_sample_weight(class_weight, labels)
        for target in (labels, labels.astype(np.uint8), np.eye(4)[labels]):
            for cls in (library.losses.CrossEntropy, library.losses.Hinge):
                weights = cls(class_weight=class_weight).row_weights(target)
                assert_same_bits(weights, wanted)
                assert_same_bits(cls(class_weight=class_weight).row_weights(target, given), given * wanted)
    for y in (labels > 0, 1.0 * (labels > 0), (labels > 0)[:, None]):
        wanted = utils.compute_sample_weight("balanced", labels > 0)
        for cls in (library.losses.BinaryCrossEntropy, library.losses.BinaryHinge):
            assert_same_bits(cls(class_weight="balanced").row_weights(y), wanted)
    assert_same_bits(library.losses.BinaryHinge(class_weight="balanced").row_weights(2.0 * (labels > 0) - 1), wanted)


def test_class_weights_take_part(library: ModuleType) -> None:
    """Weights of classes are weights of rows."""
    labels = np.abs(integers(12, most=2))
    for name in CLASSES:
        cls = names(library)[name]
        binary = cls.one_column  # type: ignore[attr-defined]
        y, width = (labels % 2, 1) if binary else (labels, 3)
        out = numbers(12, width, seed=1)
        weights = np.array([0.5, 2.0, 3.0])[y]
        wanted = cls()(out, y, sample_weight=weights)  # type: ignore[operator]
        for class_weight in ((0.5, 2.0, 3.0), np.array([0.5, 2.0, 3.0]), {0: 0.5, np.int64(1): 2, 2: 3.0}):
            loss: Any = cls(class_weight=class_weight)  # type: ignore[call-arg]
            got = loss(out, y)
            assert got[0] == wanted[0]
            assert_same_bits(got[1], wanted[1])
            assert loss == cls(class_weight=class_weight) and {loss: 1}[loss] == 1  # type: ignore[call-arg]
            assert eval(repr(loss), {name: cls}) == loss
        function = getattr(library.losses, cls.row)(out, y, class_weight=class_weight, sample_weight=np.ones(12))
        assert function[0] == wanted[0]


def test_class_weights_of_signs(library: ModuleType) -> None:
    """The negative class of a binary hinge is 0, or -1."""
    for negative in (0, -1):
        loss = library.losses.BinaryHinge(class_weight={negative: 2.0, 1: 3.0})
        for y in ([-1, 1, -1], [0, 1, 0], [-0.5, 7.0, -3.0]):
            assert loss.row_weights(y).tolist() == [2, 3, 2]


def test_no_weights_are_none(library: ModuleType) -> None:
    for cls in names(library).values():
        assert cls().row_weights([0, 1]) is None
        assert cls().row_weights([0, 1], [1, 2]).tolist() == [1, 2]  # type: ignore[union-attr]
    assert library.losses.CrossEntropy(class_weight={}) == library.losses.CrossEntropy()


@pytest.mark.parametrize(
    "class_weight, error, message",
    [
        ("equal", ValueError, "class_weight must be None, 'balanced', a mapping or an array of weights, got 'equal'"),
        (3.0, ValueError, r"class_weight must have one weight for each class, got shape \(\)"),
        ([], ValueError, r"class_weight must have one weight for each class, got shape \(0,\)"),
        ([1.0, -1.0], ValueError, "class_weight must be finite and at least 0, got -1.0 in row 1"),
        ([1.0, math.nan], ValueError, "class_weight must be finite and at least 0, got nan in row 1"),
        ({0: -1.0}, ValueError, "class_weight must be finite and at least 0, got -1.0 for label 0"),
        ({0: math.inf}, ValueError, "class_weight must be finite and at least 0, got inf for label 0"),
        ({0: "1"}, TypeError, "class_weight must be a real number, got str"),
        ({0.5: 1.0}, TypeError, "class_weight must map integer labels to weights, got label 0.5"),
        ({"cat": 1.0}, TypeError, "class_weight must map integer labels to weights, got label 'cat'"),
        (["a", "b"], TypeError, "class_weight must hold real numbers"),
    ],
)
def test_class_weights_that_are_refused(library: ModuleType, class_weight: Any, error: type[Exception], message: str) -> None:
    for name in CLASSES:
        with pytest.raises(error, match=message):
            names(library)[name](class_weight=class_weight)  # type: ignore[call-arg]


def test_class_weights_need_classes(library: ModuleType) -> None:
    losses = library.losses
    out = numbers(3, 2)
    with pytest.raises(ValueError, match="class_weight must have one weight for each class, got 1 weights and label 1 in target"):
        losses.cross_entropy(out, [0, 1, 0], class_weight=[1.0])
    with pytest.raises(ValueError, match="class_weight needs target to hold integer labels or one-hot rows"):
        losses.cross_entropy(out, np.full((3, 2), 0.5), class_weight="balanced")
    with pytest.raises(ValueError, match="class_weight needs y to hold integer labels or one-hot rows"):
        losses.BinaryCrossEntropy(class_weight="balanced").row_weights([0.5, 1.0], name="y")
    with pytest.raises(TypeError, match="class_weight"):
        losses.SquaredError(class_weight="balanced")


# Sample weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights, error, message",
    [
        ([1.0, 2.0], ValueError, r"sample_weight must have shape \(3,\), got \(2,\)"),
        (np.ones((3, 1)), ValueError, r"sample_weight must have shape \(3,\), got \(3, 1\)"),
        (1.0, ValueError, r"sample_weight must have shape \(3,\), got \(\)"),
        ([1.0, -0.5, 1.0], ValueError, "sample_weight must be finite and at least 0, got -0.5 in row 1"),
        ([1.0, 1.0, math.nan], ValueError, "sample_weight must be finite and at least 0, got nan in row 2"),
        ([math.inf, 1.0, 1.0], ValueError, "sample_weight must be finite and at least 0, got inf in row 0"),
        ([1e308, 1e308, 1.0], ValueError, "sample_weight must have a finite sum, got inf"),
        (["a", "b", "c"], TypeError, "sample_weight must hold real numbers, got"),
        ([1j, 1j, 1j], TypeError, "sample_weight must hold real numbers, got"),
    ],
)
def test_sample_weights_that_are_refused(library: ModuleType, weights: Any, error: type[Exception], message: str) -> None:
    for name in LOSSES:
        out, target = numbers(3, 4 if name == "gaussian_nll" else 2), [[0, 1]] * 3
        with pytest.raises(error, match=message):
            getattr(library.losses, name)(out, target, sample_weight=weights)


def test_the_binding_checks_weights_too() -> None:
    """Networks hand it weights by themselves."""
    from fastbp import _fastbp_core as core

    for weights, message in (([1.0], "shape"), ([1, math.nan, 1], "row 1"), ([1e308] * 3, "finite sum"), ([-1.0, 1, 1], "row 0")):
        with pytest.raises(ValueError, match=f"sample_weight must .*{message}"):
            core.loss_gradient(0, numbers(3, 2), numbers(3, 2), weights)


# Targets -----------------------------------------------------------------------------------------------


def test_targets_that_are_refused(library: ModuleType) -> None:
    losses = library.losses
    out = numbers(4, 3)
    with pytest.raises(ValueError, match="gaussian_nll needs an even number of outputs, means and then log variances, got 3"):
        losses.gaussian_nll(out, out)
    with pytest.raises(ValueError, match=r"target must have shape .*, got \(4, 3\)"):
        losses.gaussian_nll(numbers(4, 4), out)
    with pytest.raises(TypeError, match="integer"):
        losses.hinge(out, [0.0, 1.0, 2.0, 0.0])
    with pytest.raises(ValueError, match="label"):
        losses.hinge(out, [0, 1, 2, 3])
    for name in LOSSES:
        with pytest.raises(ValueError, match="target must be finite"):
            getattr(library.losses, name)(numbers(4, 6), np.full((4, 3 if name == "gaussian_nll" else 6), np.inf))
    assert losses.gaussian_nll(numbers(4, 2), numbers(4))[1].shape == (4, 2)


def test_a_network_of_an_odd_number_of_outputs_has_no_gaussian_loss() -> None:
    with pytest.raises(ValueError, match="gaussian_nll needs an even number of outputs, means and then log variances, got 3"):
        fb.Sequential([fb.Input(2), fb.Dense(3)], "gaussian_nll", seed=0)
