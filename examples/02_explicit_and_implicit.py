"""Explicit against total derivative: why the "+" in dh_t/dW = ∂⁺h_t/∂W + ∂h_t/∂h_{t-1} · dh_{t-1}/dW?

A loop written by hand. All it says about time is `with scope(t=t):`; that is enough to take its gradient apart, to
prove every number, and to see each use of W in the matrix A[t,k].
"""

import numpy as np

from tinygrad_rnn import Tensor, bptt, functional, scope

rng = np.random.default_rng(0)
T, B, D, H, V = 4, 2, 3, 5, 6
U = Tensor(rng.normal(size=(D, H)), requires_grad=True, name="U")
W = Tensor(rng.normal(size=(H, H)) / H**0.5, requires_grad=True, name="W")
Q = Tensor(rng.normal(size=(H, V)), requires_grad=True, name="V")
x, y = rng.normal(size=(T, B, D)), rng.integers(0, V, (T, B))

h = Tensor(rng.normal(size=(B, H)), name="h_0")
losses = []
for t in range(1, T + 1):
    with scope(t=t):
        h = functional.tanh(x[t - 1] @ U + h @ W).named("h")
        losses.append(functional.cross_entropy(h @ Q, y[t - 1], "sum").named("E"))

explanation = bptt.explain(losses[-1], W)
print(explanation, "\n")
print(bptt.prove(explanation), "\n")
print(bptt.terms(losses, W))
