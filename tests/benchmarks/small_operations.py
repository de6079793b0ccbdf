"""What one small operation costs, forward and backward, beside PyTorch eager and plain NumPy, in one run.

    python tests/benchmarks/small_operations.py

A chain of 1,000 tanh, add and multiply on (1, 16) and the sum of its end, differentiated by x, w and b. The contestants
take turns, and each is judged by the median of its turns. Only the ratios mean anything on another machine.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

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
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}\n")
    print("| µs per operation, forward and backward | " + " | ".join(("float64", "float32")) + " |\n|---|---|---|")
    medians: dict[str, list[float]] = {}
    for dtype in (np.float64, np.float32):
        rng = np.random.default_rng(0)
        arrays = [rng.normal(mean, sd, (1, 16)).astype(dtype) for mean, sd in ((0, 1), (1.1, 0.05), (0, 0.001))]
        steps: dict[str, Any] = {"NumPy by hand": numpy_by_hand(arrays), "tinygrad_rnn": ours(arrays)}
        try:
            steps["PyTorch eager"] = torch_eager(arrays)
        except ImportError:
            print("(no PyTorch here: its row is left out)")
        expected = steps["NumPy by hand"]()
        for step in steps.values():
            for got, want in zip(step(), expected):
                tolerance = 1e-3 if dtype is np.float32 else 1e-10
                assert np.abs(np.asarray(got) - want).max() <= tolerance * np.abs(want).max()
        gc.collect()
        gc.freeze()  # so that one contestant's collections do not walk over another's library
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - start)
        for name, taken in times.items():
            medians.setdefault(name, []).append(1e6 * statistics.median(taken) / N)
    for name, columns in medians.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in columns) + " |")
    if "PyTorch eager" in medians:
        ratios = [a / b for a, b in zip(medians["tinygrad_rnn"], medians["PyTorch eager"])]
        print("| tinygrad_rnn / PyTorch eager | " + " | ".join(f"**{ratio:.2f}**" for ratio in ratios) + " |")


if __name__ == "__main__":
    main()
