"""Floor 1: where NumPy stretched an argument, its contribution is summed back. It happens here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .ops import Array
from .scope import told

if TYPE_CHECKING:
    from .tensor import Tensor


def fitted(d: Array, node: Tensor, position: int, seeds: tuple[int, ...]) -> Any:
    """A contribution summed over broadcast axes; ValueError if its shape is wrong for any other reason."""
    shape, lead, op = node.inputs[position].shape, len(seeds), node.op
    inner = d.shape[lead:]
    if op.elementwise and inner == node.shape and inner[1:] == shape:  # the commonest: a bias under a batch
        return np.add.reduce(d, axis=lead)
    stretched = len(inner) >= len(shape) and all(n in (1, m) for n, m in zip(shape[::-1], inner[::-1]))
    if op.broadcasts and stretched and d.shape[:lead] == seeds and (inner == node.shape or not op.elementwise):
        return unbroadcast(d, shape, lead)
    raise ValueError(f"{op.name}: rule of argument {position} gave {d.shape}, not {seeds + shape}{told(node.scope)}")


def unbroadcast(g: Array, shape: tuple[int, ...], lead: int) -> Any:
    """Sum g, (seeds..., *stretched), over the axes along which NumPy stretched an argument of `shape`."""
    extra = g.ndim - lead - len(shape)
    stretched = [i for i, n in enumerate(shape) if n == 1 and g.shape[lead + extra + i] != 1]
    axes = (*range(lead, lead + extra), *(lead + extra + i for i in stretched))
    return g.sum(axis=axes).reshape((*g.shape[:lead], *shape))
