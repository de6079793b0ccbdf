"""Why do gradients vanish, and what does a forget gate do about it? ∂s_T/∂s_k is a product of one-step Jacobians (18).

No size of W alone decides: with w = 3 the same network explodes from h_0 = 0 and vanishes from h_0 = 0.5, for tanh is
flat where the states are large. A cell state is only multiplied by forget gates on its direct path, and a product of
numbers below 1 vanishes as well, unless they are close to 1; but that is not the only path.
"""

import numpy as np

from tinygrad_rnn import nn
from tinygrad_rnn.bptt.jacobian import bounds, decay, prove_decay, state_jacobian, states

rng = np.random.default_rng(0)
T, B, D, H = 50, 1, 3, 8

print("h_t = tanh(3 h_{t-1}), 20 steps:")
cell = nn.RNNCell(1, 1, bias=False, rng=rng)
cell.W.data = [[3.0]]
for start in (0.0, 0.5):
    hs, last = nn.unroll(cell, np.zeros((20, 1, 1)), np.full((1, 1), start))
    tight, loose = bounds(cell.W.data, np.stack([h.data for h in hs]))
    print(f"  h_0 = {start}:  ∂h_20/∂h_0 = {decay(last).norms[-1, 0]:.2g} ≤ Π‖D_j W‖ = {tight[-1, 0]:.2g} "
          f"≤ (γλ)^20 = {loose[-1]:.2g}")

x = rng.normal(size=(T, B, D))
for bias in (1, 5):
    print(f"\nAn LSTM whose forget gates start from b_f = {bias}; σ({bias})^{T} = {(1 + np.exp(-bias)) ** -T:.2g}")
    hs, last = nn.unroll(nn.LSTMCell(D, H, forget_bias=bias, rng=rng), x)
    measured = decay(last)
    print(measured)
    print("  proved:", all(prove_decay(measured)))

s = states(last)  # any pair of states, of any cell: here of the last LSTM
J = state_jacobian(s[3], s[2])
print(f"\n∂s_3/∂s_2, s = [h; c], is {J.shape[1]} × {J.shape[2]}; from c_2 to c_3, the direct path is diag f_3:")
print(state_jacobian(s[3], s[2], direct=True)[0, H:, H:].diagonal().round(3))
