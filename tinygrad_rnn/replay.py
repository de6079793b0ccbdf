"""Floor 2: a recorded graph evaluated again, with leaves changed, a state held fixed, or one copy of W per use.

A substitution's key is a tensor, which is replaced wherever it is read, or an edge (node, input position), which
replaces one use and leaves the others. What the substitutions do not reach keeps the values that the forward pass saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import ops
from .ops import Array
from .sweep import order
from .tensor import Tensor, apply, constant

Key = Tensor | tuple[Tensor, int]


def replay(root: Tensor, substitutions: Mapping[Any, Any]) -> Tensor:
    """The graph of `root` made again with tensors or arrays in place of some; names and scopes are kept.

    Gradients flow to the substituted tensors only. Raises ValueError for a key that is not in the graph.
    """
    made: dict[Any, Tensor] = {key: x if isinstance(x, Tensor) else Tensor(x) for key, x in substitutions.items()}
    for node, keys in reached(root, substitutions):
        inputs = tuple(constant(seen) if key is None else made[key] for key, seen in zip(keys, node.saved[1:]))
        made[node] = apply(node.op, inputs, node.settings)
        made[node].name, made[node].scope = node.name, node.scope
    return made.get(root, root)


def evaluate(root: Tensor, substitutions: Mapping[Any, Array]) -> Array:
    """The value of `root` for P substitutions at once: each array is (P, *shape), real or complex; so is the result.

    Nothing is recorded; only the forward passes run. Raises ValueError for a key that is not in the graph, or for
    arrays of different P.
    """
    made: dict[Any, Array] = dict(substitutions)
    copies, *others = {len(x) for x in made.values()}
    if others:
        raise ValueError(f"evaluate: expected one leading axis, got shapes {[x.shape for x in made.values()]}")
    plan = list(reached(root, substitutions))
    left = Counter(key for _, keys in plan for key in keys)
    for node, keys in plan:
        arguments = [seen if key is None else made[key] for key, seen in zip(keys, node.saved[1:])]
        made[node] = batched(node, arguments, copies)
        left.subtract(keys)
        for key in set(keys):  # what nobody reads any more is let go: memory does not grow with the steps
            if not left[key] and key is not None and key is not root:
                del made[key]
    return made.get(root, np.broadcast_to(root.data, (copies, *root.shape)))


def reached(root: Tensor, substitutions: Mapping[Any, Any]) -> Iterator[tuple[Tensor, list[Key | None]]]:
    """The nodes that the substitutions change, oldest first, with the key that stands in for each input, if any."""
    nodes = order([root])
    present = {root, *nodes, *(key for node in nodes for i, x in enumerate(node.inputs) for key in (x, (node, i)))}
    if missing := set(substitutions) - present:
        raise ValueError(f"not in the graph of {root!r}: {missing}")
    needed, changed = {root}, set(substitutions)
    for node in nodes:  # newest first: what stands behind a substitution is not needed
        if node in needed and node not in substitutions:
            needed.update(x for i, x in enumerate(node.inputs) if (node, i) not in substitutions)
    for node in reversed(nodes):
        if node in needed and node not in substitutions:
            keys = [next((key for key in ((node, i), x) if key in changed), None) for i, x in enumerate(node.inputs)]
            if any(key is not None for key in keys):
                changed.add(node)
                yield node, keys


def batched(node: Tensor, arguments: list[Array], copies: int) -> Array:
    """The forward pass of one node, some of whose arguments have a leading axis of `copies`; the result has it too."""
    op, settings, shape = node.op, dict(node.settings or {}), (copies, *node.shape)
    ndims = [x.ndim for x in node.inputs]
    leads = [x.ndim - n for x, n in zip(arguments, ndims)]
    if op is ops.RESHAPE:
        return arguments[0].reshape(shape)
    if op is ops.MATMUL:  # vectors become a row on the left, a column on the right, as NumPy has them
        a, b = arguments
        if b.ndim == ndims[1] == 2 and ndims[0] > 1:  # all copies in one product, which BLAS takes
            return (a.reshape(-1, a.shape[-1]) @ b).reshape(shape)
        arguments = [a[..., None, :] if ndims[0] == 1 else a, b[..., None] if ndims[1] == 1 else b]
        ndims = [max(n, 2) for n in ndims]
    if op is ops.GETITEM:
        return np.stack([op.forward(x, **settings) for x in arguments[0]])
    if op is ops.TRANSPOSE:
        axes = settings["axes"] or range(ndims[0])[::-1]
        settings["axes"] = (0, *(1 + a % ndims[0] for a in axes))
    elif op is ops.BROADCAST_TO:
        settings["shape"], arguments = shape, widened(arguments, leads, node.ndim)
    elif op in (ops.STACK, ops.CONCAT):
        arguments = [x if lead else np.broadcast_to(x, (copies, *x.shape)) for x, lead in zip(arguments, leads)]
    else:
        arguments = widened(arguments, leads, max(node.ndim, *ndims))
    y = op.forward(*arguments, **settings)
    return np.asarray(y[0] if op.saves else y).reshape(shape)


def widened(arguments: list[Array], leads: list[int], ndim: int) -> list[Array]:
    """Each leading axis moved so far to the front that what is behind it broadcasts as without it."""
    return [x.reshape(len(x), *[1] * (ndim - x.ndim + 1), *x.shape[1:]) if lead else x
            for x, lead in zip(arguments, leads)]
