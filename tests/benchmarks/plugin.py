"""This engine as one more contestant: small operations, the character model's training step, and the term matrix.

A harness that loads it offers `contestant(suite, name)`, a decorator for builders: `build(case)` is untimed and returns
`step()`, which is timed and returns the loss and the gradients by name.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from peers import Skip, chain, contestant  # the harness that loads this file

from tinygrad_rnn import Tensor, bptt, scope
from tinygrad_rnn.functional import cross_entropy, stack, tanh
from tinygrad_rnn.fused import rnn


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


@contestant("lm", "tinygrad_rnn, fused")
def fused_training_step(case: Any) -> Any:
    """The layer as one node."""
    if case.cell != "rnn":
        raise Skip()
    p = {name: Tensor(value, requires_grad=True) for name, value in case.params.items()}
    h_0, ids = Tensor(case.h0), case.ids.reshape(case.T, case.B)
    targets = case.targets.reshape(case.T, case.B)

    def step() -> tuple[float, dict[str, Any]]:
        for parameter in p.values():
            parameter.grad = None
        hs = rnn(p["Wx"][ids] + p["b"], p["Wh"], h_0)
        loss = cross_entropy(hs @ p["Wy"] + p["by"], targets, "sum") / case.B
        loss.backward()
        return loss.item(), {name: parameter.grad for name, parameter in p.items()}

    return step


@contestant("decomp", "tinygrad_rnn")
def term_matrix(case: Any) -> Any:
    """The norms of A[t,k] for W, from the forward pass on: a fused layer, and the losses of all steps at once."""
    p = {name: Tensor(value, requires_grad=True) for name, value in case.params.items()}
    h_0, (T, B) = Tensor(case.h0), (case.T, case.B)
    ids, targets = case.ids.reshape(T, B), case.targets.reshape(T, B)

    def step() -> tuple[float, dict[str, Any]]:
        hs = rnn(p["Wx"][ids] + p["b"], p["Wh"], h_0)
        losses = cross_entropy(hs @ p["Wy"] + p["by"], targets, "none").sum(-1) / B
        return losses.data.sum(), {"norms": bptt.terms(losses, p["Wh"]).norms}

    return step


@contestant("decomp", "tinygrad_rnn, step by step")
def term_matrix_of_the_graph(case: Any) -> Any:
    """The same from the graph of a loop as one reads it: a loss at every step, then all of them in one go."""
    p = {name: Tensor(value, requires_grad=True) for name, value in case.params.items()}
    h_0, targets = Tensor(case.h0), case.targets.reshape(case.T, case.B)

    def step() -> tuple[float, dict[str, Any]]:
        h, losses = h_0, []
        for t, ids in enumerate(case.ids.reshape(case.T, case.B), 1):
            with scope(t=t):
                h = tanh(p["Wx"][ids] + h @ p["Wh"] + p["b"])
                losses.append(cross_entropy(h @ p["Wy"] + p["by"], targets[t - 1], "sum") / case.B)
        return sum(loss.item() for loss in losses), {"norms": bptt.terms(losses, p["Wh"]).norms}

    return step
