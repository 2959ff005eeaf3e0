"""Settings of optimizers: how they are shown, and what is refused."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest


def test_they_show_the_call_that_makes_them(library: ModuleType) -> None:
    for name, settings, shown in (
        ("SGD", {}, "SGD(learning_rate=0.01)"),
        ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}, "SGD(learning_rate=0.1, momentum=0.9, nesterov=True)"),
        ("Adam", {}, "Adam(learning_rate=0.001)"),
        ("Adam", {"beta2": 0.9}, "Adam(learning_rate=0.001, beta2=0.9)"),
        ("RMSprop", {"alpha": 0.9, "eps": 0.1}, "RMSprop(learning_rate=0.001, alpha=0.9, eps=0.1)"),
        ("Adagrad", {"learning_rate": 1}, "Adagrad(learning_rate=1)"),
        ("AdamW", {}, "AdamW(learning_rate=0.001)"),
        ("AdamW", {"weight_decay": 0.0, "l2": 1.0}, "AdamW(learning_rate=0.001, l2=1.0, weight_decay=0.0)"),
        ("SGD", {"clip_norm": 1.0, "accumulate": 2}, "SGD(learning_rate=0.01, clip_norm=1.0, accumulate=2)"),
        ("RMSprop", {"max_norm": 3.0, "l1": 0.5}, "RMSprop(learning_rate=0.001, l1=0.5, max_norm=3.0)"),
    ):
        made = getattr(library, name)(**settings)
        assert repr(made) == shown
        assert eval(shown, vars(library)) == made


BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("SGD", {"nesterov": True}, ValueError, "nesterov must come with momentum above 0, got momentum=0.0"),
    ("SGD", {"momentum": 0.9, "nesterov": 1}, TypeError, "nesterov must be True or False, got 1"),
    ("Adam", {"learning_rate": -1.0}, ValueError, "learning_rate must be at least 0 and finite, got -1.0"),
    ("Adam", {"beta1": 1.0}, ValueError, "beta1 must be at least 0 and below 1, got 1.0"),
    ("Adam", {"beta2": -0.1}, ValueError, "beta2 must be at least 0 and below 1, got -0.1"),
    ("Adam", {"beta2": "a"}, TypeError, "beta2 must be a real number, got str"),
    ("Adam", {"eps": 0.0}, ValueError, "eps must be above 0 and finite, got 0.0"),
    ("Adam", {"eps": math.nan}, ValueError, "eps must be above 0 and finite, got nan"),
    ("RMSprop", {"alpha": 1.5}, ValueError, "alpha must be at least 0 and below 1, got 1.5"),
    ("RMSprop", {"eps": math.inf}, ValueError, "eps must be above 0 and finite, got inf"),
    ("Adagrad", {"eps": -1e-9}, ValueError, "eps must be above 0 and finite, got -1e-09"),
    ("SGD", {"l2": -1}, ValueError, "l2 must be at least 0 and finite, got -1"),
    ("SGD", {"weight_decay": math.inf}, ValueError, "weight_decay must be at least 0 and finite, got inf"),
    ("AdamW", {"weight_decay": "1"}, TypeError, "weight_decay must be a real number, got str"),
    ("Adam", {"decay_biases": None}, TypeError, "decay_biases must be True or False, got None"),
    ("Adam", {"clip_norm": 0.0}, ValueError, "clip_norm must be None, or above 0 and finite, got 0.0"),
    ("Adam", {"clip_norm": math.nan}, ValueError, "clip_norm must be None, or above 0 and finite, got nan"),
    ("RMSprop", {"clip_value": -2}, ValueError, "clip_value must be None, or above 0 and finite, got -2"),
    ("RMSprop", {"clip_value": "a"}, TypeError, "clip_value must be a real number, got str"),
    (
        "Adagrad",
        {"clip_norm": 1.0, "clip_value": 2.0},
        ValueError,
        "clip_norm and clip_value exclude each other, got clip_norm=1.0, clip_value=2.0",
    ),
    ("SGD", {"l1": -0.5}, ValueError, "l1 must be at least 0 and finite, got -0.5"),
    ("AdamW", {"l1": math.nan}, ValueError, "l1 must be at least 0 and finite, got nan"),
    ("RMSprop", {"l1": None}, TypeError, "l1 must be a real number, got NoneType"),
    ("SGD", {"max_norm": 0}, ValueError, "max_norm must be None, or above 0 and finite, got 0"),
    ("Adam", {"max_norm": math.inf}, ValueError, "max_norm must be None, or above 0 and finite, got inf"),
    ("Adagrad", {"max_norm": "3"}, TypeError, "max_norm must be a real number, got str"),
    ("SGD", {"accumulate": 0}, ValueError, "accumulate must be at least 1, got 0"),
    ("SGD", {"accumulate": 2.0}, TypeError, "accumulate must be an integer, got float"),
    ("Adagrad", {"learning_rate": None}, TypeError, "learning_rate must be a real number, got NoneType"),
]


@pytest.mark.parametrize("name, settings, error, message", BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_settings_of_optimizers(
    library: ModuleType, name: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        getattr(library, name)(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adagrad"])
def test_weight_decay_is_for_sgd_and_adamw(name: str, library: ModuleType) -> None:
    with pytest.raises(TypeError, match="weight_decay"):
        getattr(library, name)(weight_decay=0.1)
    for positional in (library.SGD, library.Adam, library.AdamW):
        with pytest.raises(TypeError, match="positional"):
            positional(0.1, 0.9, 0.9, 0.1, 0.1)
