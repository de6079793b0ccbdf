"""This engine as one more contestant beside the peers: small operations, and the character model's training step.

A harness that loads it offers `contestant(suite, name)`, a decorator for builders: `build(case)` is untimed and returns
`step()`, which is timed and returns the loss and the gradients by name.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from peers import Skip, chain, contestant  # the harness that loads this file

from tinygrad_rnn import Tensor
from tinygrad_rnn.functional import cross_entropy, stack, tanh


@contestant("ops", "tinygrad_rnn")
def small_operations(case: Any) -> Any:
    leaves = {name: Tensor(value, requires_grad=True) for name, value in case.params.items()}

    def step() -> tuple[float, dict[str, Any]]:
        for leaf in leaves.values():
            leaf.grad = None
        loss = chain(leaves["x"], leaves["w"], leaves["b"], case.n, tanh).sum()
        loss.backward()
        return loss.item(), {name: leaf.grad for name, leaf in leaves.items()}

    return step


@contestant("lm", "tinygrad_rnn")
def training_step(case: Any) -> Any:
    """The cell as one reads it, step by step, one row of U for each character."""
    if case.cell != "rnn":
        raise Skip()
    p = {name: Tensor(value, requires_grad=True) for name, value in case.params.items()}
    h_0 = Tensor(case.h0)

    def step() -> tuple[float, dict[str, Any]]:
        for parameter in p.values():
            parameter.grad = None
        h, hs = h_0, []
        for ids in case.ids:
            h = tanh(p["Wx"][ids] + h @ p["Wh"] + p["b"])
            hs.append(h)
        loss = cross_entropy(stack(hs) @ p["Wy"] + p["by"], case.targets, "sum") / case.B
        loss.backward()
        return loss.item(), {name: parameter.grad for name, parameter in p.items()}

    return step
