"""Floor 2: one backward sweep, kept. Nothing is recorded unless a reader asks for it here."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .ops import Array, Indexed
from .sweep import Edge, sweep
from .tensor import Tensor


@dataclass(frozen=True, repr=False)
class Recording:
    """d(root)/d(x) for every tensor x that the sweep reached, and what each edge (node, input position) contributed."""

    root: Tensor
    gradients: dict[Tensor, Array]
    contributions: dict[tuple[Tensor, int], Any]  # arrays; of slices Indexed, which np.asarray spreads
    cut: Container[tuple[Tensor, int]]

    def __repr__(self) -> str:
        return (f"Recording of the sweep back from {self.root.name or 'a result'}: {len(self.gradients)} gradients, "
                f"{len(self.contributions)} edges")


def record(root: Tensor, gradient: Any = None, cut: Container[tuple[Tensor, int]] = ()) -> Recording:
    """Sweep back from `root`, weighted by `gradient` (1 for a scalar), without touching any `.grad`.

    What flows through the edges in `cut`, (node, input position), is left out, as if the input were detached there.
    Raises what `backward` raises.
    """
    if gradient is None and root.shape != ():
        raise ValueError(f"record: a root of shape {root.shape} needs a gradient of that shape")
    totals = {root: np.array(1.0 if gradient is None else gradient, root.dtype)}
    if totals[root].shape != root.shape:
        raise ValueError(f"record: the gradient has shape {totals[root].shape}, the root {root.shape}")
    gradients = dict(totals)
    contributions: dict[tuple[Tensor, int], Any] = {}
    for node, position, g, d in walk(totals, lambda node, position: (node, position) in cut):
        gradients[node] = g
        if (node, position) not in cut:
            contributions[node, position] = d if isinstance(d, Indexed) else np.asarray(d)
    return Recording(root, gradients | totals, contributions, cut)


def walk(totals: dict[Tensor, Array], cut: Callable[[Tensor, int], bool]) -> Iterator[Edge]:
    """The edges of the sweep back from the roots in `totals`, where nothing goes on along those that are `cut`.

    A cut edge, one at which cut(node, input position) is true, is shown too, with what it would have contributed.
    """
    edges = sweep(totals)
    answer = None
    while True:
        try:
            edge = edges.send(answer)
        except StopIteration:
            return
        yield edge
        answer = cut(edge[0], edge[1])


def flow(totals: dict[Tensor, Array], parameter: Tensor) -> Any:
    """What reaches W, any tensor, of the gradients in `totals`; what is behind W does not matter."""
    found = totals.get(parameter, np.zeros(parameter.shape))
    if roots := {x: g for x, g in totals.items() if x is not parameter}:
        for node, position, _, d in walk(roots, lambda n, i: n.inputs[i] is parameter):
            if node.inputs[position] is parameter:
                found = found + d
    return found
