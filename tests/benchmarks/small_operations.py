"""What one small operation costs, forward and backward, beside PyTorch eager and plain NumPy, in one run.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/small_operations.py

A chain of 1,000 tanh, add and multiply on (1, 16) and the sum of its end, differentiated by x, w and b. Only the ratios
mean anything on another machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from timing import machine, medians, rows

from tinygrad_rnn import Tensor
from tinygrad_rnn.functional import tanh

N, ROUNDS = 1000, 200


def chain(x: Any, w: Any, b: Any, tanh: Callable[[Any], Any]) -> Any:
    for i in range(N):
        x = tanh(x) if i % 3 == 0 else x + b if i % 3 == 1 else x * w
    return x.sum()


def ours(arrays: list[Any]) -> Callable[[], list[Any]]:
    leaves = [Tensor(array, requires_grad=True) for array in arrays]

    def step() -> list[Any]:
        for leaf in leaves:
            leaf.grad = None
        chain(*leaves, tanh).backward()
        return [leaf.grad for leaf in leaves]

    return step


def torch_eager(arrays: list[Any]) -> Callable[[], list[Any]]:
    import torch

    torch.set_num_threads(1)
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    return lambda: list(torch.autograd.grad(chain(*leaves, torch.tanh), leaves))


def numpy_by_hand(arrays: list[Any]) -> Callable[[], list[Any]]:
    """The same chain and its derivative without any engine: what the arithmetic alone costs."""
    x, w, b = arrays

    def step() -> list[Any]:
        y, kept = x, []
        for i in range(N):
            if i % 3 == 0:
                y = np.tanh(y)
                kept.append(y)
            elif i % 3 == 1:
                y = y + b
            else:
                kept.append(y)
                y = y * w
        g, dw, db = np.ones_like(x), np.zeros_like(w), np.zeros_like(b)
        for i in reversed(range(N)):
            if i % 3 == 0:
                y = kept.pop()
                g = g - g * y * y
            elif i % 3 == 1:
                db += g
            else:
                dw += g * kept.pop()
                g = g * w
        return [g, dw, db]

    return step


def main() -> None:
    print(f"{machine()}\n")
    print("| µs per operation, forward and backward | float64 | float32 |\n|---|---|---|")
    columns = {}
    for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 1e-3)):
        rng = np.random.default_rng(0)
        arrays = [rng.normal(mean, sd, (1, 16)).astype(dtype) for mean, sd in ((0, 1), (1.1, 0.05), (0, 0.001))]
        steps = {"NumPy by hand": numpy_by_hand(arrays), "tinygrad_rnn": ours(arrays)}
        try:
            steps["PyTorch eager"] = torch_eager(arrays)
        except ImportError:
            print("(no PyTorch here: its row is left out)")
        columns[str(dtype)] = medians(steps, ROUNDS, tolerance)
    print(rows(columns, 1e-6 * N, "tinygrad_rnn", "PyTorch eager"))


if __name__ == "__main__":
    main()
