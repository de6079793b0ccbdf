"""Floor 5: the terms A[t,k] of W where a layer is one node (`fused.py`): (22), back in time for many losses at once.

T steps, B batch, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .. import fused, ops
from ..ops import Array, Outer
from ..recording import flow
from ..sweep import order
from ..tensor import Tensor

REDUCING = (ops.SUM, ops.MEAN, ops.MAX, ops.SOFTMAX, ops.LOG_SOFTMAX, ops.CROSS_ENTROPY, ops.CONCAT)


def layer_of(losses: Sequence[Tensor], parameter: Tensor) -> Tensor | None:
    """The fused layer whose W is the parameter; None where there is none.

    Raises ValueError for another parameter of a graph with a fused layer, or a W that something else reads besides.
    """
    nodes = order([losses] if isinstance(losses, Tensor) else losses)
    if not any(node.op is fused.RNN for node in nodes):
        return None
    readers = [(node, i) for node in nodes for i, x in enumerate(node.inputs) if x is parameter]
    if len(readers) != 1 or readers[0][0].op is not fused.RNN or readers[0][1] != 1 or not parameter.requires_grad:
        raise ValueError(f"{parameter.name or 'the parameter'}: where a layer of the graph is fused there are terms of "
                         "the W of such a layer alone, if it asks for a gradient and is read once; build the network "
                         "with fused=False for all else")
    return readers[0][0]


def layer_pieces(losses: Sequence[Tensor], layer: Tensor) -> Iterator[tuple[int, Sequence[int], Outer]]:
    """(k, the places of the losses, h_{k-1}ᵀ δ_t→k for each), from the step made last to the first.

    Where E_t reads h_t and no other h of the layer, there are terms of the losses made since; else of all. Each piece
    is to be read before the next is asked for: its arrays are used again.
    """
    hs, _, W, _ = layer.saved
    settings = layer.settings or {}
    T, backward = len(layer), settings["backward"]
    back = fused.rnn_back(hs, W, **settings)
    whole = isinstance(losses, Tensor) and keeps_steps(losses, layer)
    g = fused.in_order(gradient(losses, layer, whole), backward, -3)
    places = range(T)[::-1] if backward else range(T)
    dh = np.array(g) if whole else np.zeros_like(g[:, 0])  # of the losses at t: each joins where its step begins
    delta = np.empty_like(dh)
    for k in reversed(range(T)):
        since = slice(k if whole else 0, None)
        if not whole:
            dh += g[:, k]
        back(k, dh[since], delta[since], dh[since])
        yield T - k if backward else k + 1, places[since] if whole else range(len(losses)), Outer(hs[k], delta[since])


def gradient(losses: Sequence[Tensor], layer: Tensor, whole: bool) -> Array:
    """dE_t/dh_t of all steps, (T, B, H), from one sweep without seeds; else dE_s/dh_t of every loss s, (S, T, B, H)."""
    seeds: dict[Tensor, Array]
    if isinstance(losses, Tensor):
        seeds = {losses: np.ones(len(losses), losses.dtype) if whole else np.eye(len(losses), dtype=losses.dtype)}
    else:
        seeds = dict(zip(losses, np.eye(len(losses), dtype=losses[0].dtype)))
    return np.asarray(flow(seeds, layer), layer.dtype)


def keeps_steps(losses: Tensor, layer: Tensor) -> bool:
    """Does each E_t, (T,), read h_t of the layer and no other? All ops between them keep their first axis apart."""
    behind, T = {layer}, len(layer)
    for node in reversed(order([losses])):
        read = [x for x in node.inputs if x in behind]
        if read:
            behind.add(node)
            apart = all(x.shape[:1] == node.shape[:1] == (T,) for x in read)
            if node.op is ops.MATMUL:
                apart &= read == [node.inputs[0]] and read[0].ndim > 1 and node.inputs[1].ndim < 3
            elif node.op in REDUCING:
                axes = (node.settings or {}).get("axis", -1)
                apart &= all(-x.ndim not in ops.as_tuple(axes) for x in read)
            else:
                apart &= node.op.elementwise and all(x.ndim == node.ndim for x in read)
            if not apart:
                return False
    return True
