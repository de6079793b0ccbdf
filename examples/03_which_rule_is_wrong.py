"""My gradient check fails. Which line is wrong?

A primitive is one record: its forward pass, and one rule for each partial derivative. Here is softplus with the
derivative of its mirror image; the check names the primitive, the step it stands at and the argument.
"""

import numpy as np

from tinygrad_rnn import Tensor, functional, gradcheck, scope
from tinygrad_rnn.ops import Op
from tinygrad_rnn.tensor import apply


def softplus_forward(x):
    return np.log1p(np.exp(x))


def softplus_dx(g, y, x):
    return g / (1 + np.exp(x))  # wrong: this is 1 - σ(x); the derivative is σ(x)


SOFTPLUS = Op("softplus", "y = ln(1 + eˣ)", softplus_forward, softplus_dx, elementwise=True)

rng = np.random.default_rng(0)
W = Tensor(rng.normal(size=(3, 3)), requires_grad=True, name="W")


def loss(W):
    h = Tensor(np.ones((2, 3)))
    for t in range(1, 6):
        with scope(t=t):
            z = (h @ W).named("z")
            h = apply(SOFTPLUS, (z,)) if t == 4 else functional.tanh(z)
    return h.sum()


report = gradcheck(loss, W)
print(report)
assert not report and report.culprits[0].node.op is SOFTPLUS
