"""What the norms of A[t,k] cost (19), from the forward pass on, beside T backward passes of PyTorch, in one run.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/term_matrix.py

A tanh RNN of H = 64 over T = 64 characters out of V = 80, a loss at every step, in float64: how much each loss says
about each use of W. PyTorch gets one copy of W for every step, and a backward pass for every loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from timing import machine, medians, rows

from tinygrad_rnn import Tensor, bptt, nn, scope
from tinygrad_rnn.functional import cross_entropy, tanh
from tinygrad_rnn.fused import rnn

T, H, V, ROUNDS = 64, 64, 80, 15
Arrays = dict[str, Any]


def fused(given: Arrays) -> Callable[[], list[Any]]:
    p = {name: Tensor(array, requires_grad=True) for name, array in given.items() if array.dtype.kind == "f"}

    def step() -> list[Any]:
        hs = rnn(p["U"][given["ids"]] + p["b"], p["W"], p["h_0"])
        losses = cross_entropy(hs @ p["V"] + p["c"], given["targets"], "none").sum(-1)
        return [bptt.terms(losses, p["W"]).norms]

    return step


def loop(given: Arrays) -> Callable[[], list[Any]]:
    p = {name: Tensor(array, requires_grad=True) for name, array in given.items() if array.dtype.kind == "f"}

    def step() -> list[Any]:
        h, losses = p["h_0"], []
        for t in range(1, T + 1):
            with scope(t=t):
                h = tanh(nn.affine(given["ids"][t - 1], p["U"], h, p["W"], p["b"]))
                losses.append(cross_entropy(h @ p["V"] + p["c"], given["targets"][t - 1], "sum"))
        return [bptt.terms(losses, p["W"]).norms]

    return step


def torch_passes(given: Arrays) -> Callable[[], list[Any]]:
    import torch

    torch.set_num_threads(1)
    p = {name: torch.tensor(array, requires_grad=array.dtype.kind == "f") for name, array in given.items()}

    def step() -> list[Any]:
        copies, h, losses = [p["W"].clone() for _ in range(T)], p["h_0"], []
        for t in range(T):
            h = torch.tanh(p["U"][p["ids"][t]] + h @ copies[t] + p["b"])
            losses.append(torch.nn.functional.cross_entropy(h @ p["V"] + p["c"], p["targets"][t], reduction="sum"))
        norms = torch.zeros(T, T, dtype=h.dtype)
        for t, loss in enumerate(losses):
            terms = torch.autograd.grad(loss, copies[:t + 1], retain_graph=True)
            norms[t, :t + 1] = torch.stack([term.norm() for term in terms])
        return [norms]

    return step


def main() -> None:
    print(f"{machine()}\n")
    print("| ms for the norms of A, T = H = 64 | B = 1 | B = 8 |\n|---|---|---|")
    columns = {}
    for B in (1, 8):
        rng = np.random.default_rng(0)
        shapes = {"U": (V, H), "W": (H, H), "b": (H,), "V": (H, V), "c": (V,), "h_0": (B, H)}
        given: Arrays = {name: rng.uniform(-1, 1, shape) * H**-0.5 for name, shape in shapes.items()}
        given |= {"ids": rng.integers(0, V, (T, B)), "targets": rng.integers(0, V, (T, B))}
        steps = {"tinygrad_rnn, fused layer": fused(given), "tinygrad_rnn, step by step": loop(given)}
        try:
            steps["T backward passes in PyTorch"] = torch_passes(given)
        except ImportError:
            print("(no PyTorch here: its row is left out)")
        columns[f"B = {B}"] = medians(steps, ROUNDS, 1e-10)
    print(rows(columns, 1e-3, "T backward passes in PyTorch", "tinygrad_rnn, fused layer"))


if __name__ == "__main__":
    main()
