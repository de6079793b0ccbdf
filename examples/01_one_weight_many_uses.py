"""Why are derivatives summed over steps for a shared weight?

s_t = w s_{t-1} uses one number w three times. Each use contributes to ds₃/dw on its own, and the gradient is their sum:
0.036 + 0.036 + 0.036 = 0.108, which is 3 w² s_0.
"""

from tinygrad_rnn import Tensor, bptt, scope

w = Tensor(0.2, requires_grad=True, name="w")
s = Tensor(0.9, name="s")
for t in (1, 2, 3):
    with scope(t=t):
        s = (w * s).named("s")

explanation = bptt.explain(s, w)
print(explanation)
print()
print(bptt.prove(explanation))

s.backward()
print(f"\nw.grad = {w.grad:.3f}, and 3 w² s_0 = {3 * 0.2**2 * 0.9:.3f}")
