"""Floor 4: layers without time. Symbols: B batch, D input, H hidden, V classes; `...` any leading axes."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from .. import ops
from ..ops import Array
from ..scope import current, told
from ..tensor import Tensor, apply
from .module import Module, Parameter


def uniform(rng: np.random.Generator, bound: float, *shape: int, name: str, dtype: Any = np.float64) -> Parameter:
    """A parameter drawn from [-bound, bound). Raises TypeError unless `rng` is a NumPy Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: expected np.random.default_rng(seed), got {rng!r}")
    return Parameter(rng.uniform(-bound, bound, shape), name=name, dtype=dtype)


def times(x: Tensor | Array, U: Tensor) -> Tensor:
    """x U. Integer ids stand for one-hot rows: their product is a row of U. Raises IndexError for an id outside."""
    if isinstance(x, Tensor) or np.asarray(x).dtype.kind not in "iu":
        return apply(ops.MATMUL, (x, U))
    ids = np.asarray(x)
    if ids.size and not (ids.min() >= 0 and ids.max() < len(U)):
        raise IndexError(f"ids from {ids.min()} to {ids.max()} for {len(U)} rows of {U.name}{told(current().scope)}")
    return U[ids]


def sizes(**given: int) -> None:
    for name, size in given.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool):
            raise TypeError(f"{name}: expected an integer, got {size!r}")
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")


def flags(**given: bool) -> None:
    for name, value in given.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} {value!r}: expected True or False")


def number(**given: Any) -> None:
    for name, value in given.items():
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{name} {value!r}: expected a number")
        if not np.isfinite(float(value)):
            raise ValueError(f"{name} {value!r}: expected a finite number")


class Linear(Module):
    """q = s V + c (2). s (..., in_features) or integer ids (...); V (in_features, out_features); q (..., out_features).

    Both start uniform in ±1/√in_features, as PyTorch's do.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng: np.random.Generator,
                 dtype: Any = np.float64) -> None:
        sizes(in_features=in_features, out_features=out_features)
        flags(bias=bias)
        bound = in_features**-0.5
        self.V = uniform(rng, bound, in_features, out_features, name="V", dtype=dtype)
        self.c = uniform(rng, bound, out_features, name="c", dtype=dtype) if bias else None

    def forward(self, s: Tensor | Array) -> Tensor:
        q = times(s, self.V)
        return q if self.c is None else q + self.c


class Embedding(Module):
    """Row w of the table M (S2, S4): ids (...) to vectors (..., embedding_dim). dM[w] = Σ_{t: w_t = w} dx_t.

    M (num_embeddings, embedding_dim) starts standard normal, as PyTorch's does.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, rng: np.random.Generator,
                 dtype: Any = np.float64) -> None:
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng: expected np.random.default_rng(seed), got {rng!r}")
        sizes(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.M = Parameter(rng.normal(size=(num_embeddings, embedding_dim)), name="M", dtype=dtype)

    def forward(self, ids: Array) -> Tensor:
        if np.asarray(ids).dtype.kind not in "iu":
            raise TypeError(f"Embedding: expected integer ids, got {np.asarray(ids).dtype}")
        return times(np.asarray(ids), self.M)
