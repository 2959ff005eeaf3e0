"""The whole product in two seconds: build, fit, predict, compare with the reference, look into the weights."""

from __future__ import annotations

import numpy as np
from cases import numbers

import fastbp as fb


def build(package):  # type: ignore[no-untyped-def]
    layers = [package.Input(2), package.Dense(16, "tanh"), package.Dense(2)]
    return package.Sequential(
        layers, loss="cross_entropy", optimizer=package.SGD(0.5, momentum=0.9), dtype="float64", seed=0
    )


def test_tiny() -> None:
    X = numbers(200, 2)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)  # the exclusive or of two signs
    net, reference = build(fb), build(fb.reference)
    np.testing.assert_array_equal(net.params, reference.params)

    history = net.fit(X, y, epochs=50, batch_size=20)
    assert history.loss[-1] < history.loss[0] / 2
    assert (net.predict(X).argmax(axis=1) == y).mean() > 0.9
    assert net.evaluate(X, y)["accuracy"] > 0.9
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, rtol=2 * np.finfo(np.float64).eps)

    reference.params[:] = net.params  # one pass of both from the same weights: small errors do not grow yet
    hidden = net.layers[1]
    out = net.forward(X)
    loss, dout = fb.losses.cross_entropy(out, y)
    dX = net.backward(dout, inputs=True)
    reference_out = reference.forward(X)
    reference_loss, reference_dout = fb.reference.losses.cross_entropy(reference_out, y)
    reference_dX = reference.backward(reference_dout, inputs=True)
    nearly = np.sqrt(np.finfo(np.float64).eps)  # the bounds are in test_against_reference.py
    for got, wanted in ((out, reference_out), (loss, reference_loss), (dX, reference_dX), (net.grads, reference.grads)):
        np.testing.assert_allclose(got, wanted, rtol=nearly, atol=nearly)

    before = net.predict(X)
    hidden.weight -= 0.1 * hidden.dweight  # views are live, both ways
    assert np.shares_memory(hidden.weight, net.params)
    np.testing.assert_array_equal(net.params[:32], hidden.weight.reshape(-1))
    assert (net.predict(X) != before).any()
    net.params[:] = 0
    assert (net.predict(X) == 0).all()
