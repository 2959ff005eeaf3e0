"""Training written out: forward, loss, backward, update, on a function of one variable.

Replace the import by `import fastbp.reference as fb` and it runs in pure NumPy.
"""

import numpy as np

import fastbp as fb

rng = np.random.default_rng(0)
x = rng.uniform(-3, 3, (256, 1))
y = np.sin(2 * x) + 0.1 * rng.normal(size=x.shape)

net = fb.Sequential([fb.Input(1), fb.Dense(32, "tanh"), fb.Dense(32, "tanh"), fb.Dense(1)], seed=0)
velocity = np.zeros_like(net.params)

for step in range(2001):
    out = net.forward(x)  # O, (256, 1)
    loss, dout = fb.losses.squared_error(out, y)  # E = 1/(2m) sum (O - T)^2, dE/dO
    net.backward(dout)  # dE/dW of every layer, in net.grads
    velocity = 0.9 * velocity + net.grads  # a rule of our own, on the flat vectors
    net.params -= 0.05 * velocity
    if step % 500 == 0:
        print(f"step {step:4d}  loss {loss:.4f}")
