"""Floor 1: the reverse sweep, an iterator over the edges of a graph. Knows nodes by what they remember.

`backward`, recordings, the terms of backpropagation through time and cut edges all read this one loop.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from . import ops
from .broadcasting import fitted
from .ops import Array, Indexed

if TYPE_CHECKING:
    from .tensor import Tensor

Edge = tuple["Tensor", int, Array, Any]  # node, input position, incoming gradient, contribution


def order(roots: Iterable[Tensor]) -> list[Tensor]:
    """The results that the roots are made of, newest first: the exact reverse of the program that made them."""
    found = [root for root in roots if root.op is not None]
    seen = set(found)
    for node in found:
        for x in node.inputs:
            if x.op is not None and x not in seen:
                seen.add(x)
                found.append(x)
    found.sort(key=attrgetter("index"), reverse=True)
    return found


def sweep(totals: dict[Tensor, Array]) -> Generator[Edge, bool | None, None]:
    """The reverse sweep, edge by edge: yields (node, input position, incoming gradient, contribution) as each is made.

    `totals` holds the roots with their gradients, (seeds..., *shape) each, and at the end the leaves with theirs. Who
    answers one with `send(True)` keeps it out of the totals: the edge is cut. Who reads along may also put more into
    the totals, for tensors behind a root that are still to come. What is yielded is never written again.
    Raises RuntimeError where no root requires a gradient, TypeError for complex roots, ValueError for a misshapen rule.
    """
    root = next(iter(totals))
    if not any(x.requires_grad for x in totals):
        raise RuntimeError(f"{root!r} depends on nothing that requires a gradient: nothing to sweep")
    if any(x.dtype.kind == "c" for x in totals):
        raise TypeError(f"backward of {root!r}: complex results are for the complex step only")
    return _sweep(totals)


def _sweep(totals: dict[Tensor, Array]) -> Generator[Edge, bool | None, None]:
    owned: set[Tensor] = set()  # the totals allocated here, which may be written: a first contribution is only borrowed
    pop, get, passed = totals.pop, totals.get, ops.passed
    seeds: tuple[int, ...] = ()

    def own(x: Tensor, total: Any) -> None:
        totals[x] = np.asarray(total)
        owned.add(x)

    for node in order(totals):
        g = pop(node, None)
        if g is None:
            continue  # every edge to it was cut
        op = node.op
        fits = node.fits and op.trusted is op.rules
        if not fits:
            seeds = g.shape[: g.ndim - len(node.shape)]
        if op.arity == 1:  # one and two arguments are spelled out, as in apply
            y, a = node.saved
            (x,) = node.inputs
            d = op.rules[0](g, y, a)
            if not fits and d.shape != seeds + x.shape: d = fitted(d, node, 0, seeds)
            if not (yield node, 0, g, d):
                total = get(x)
                if total is None: totals[x] = d
                elif x in owned: total += d
                else: own(x, total + d)
        elif op.arity == 2:
            y, a, b = node.saved
            x, z = node.inputs
            da, db = op.rules
            if x.requires_grad:
                d = g if da is passed else da(g, y, a, b)
                if not fits and d.shape != seeds + x.shape: d = fitted(d, node, 0, seeds)
                if not (yield node, 0, g, d):
                    total = get(x)
                    if total is None: totals[x] = d
                    elif x in owned: total += d
                    else: own(x, total + d)
            if z.requires_grad:
                d = g if db is passed else db(g, y, a, b)
                if not fits and d.shape != seeds + z.shape: d = fitted(d, node, 1, seeds)
                if not (yield node, 1, g, d):
                    total = get(z)
                    if total is None: totals[z] = d if fits or z.op is None else np.asarray(d)  # rules take no factors
                    elif z in owned: total += d
                    else: own(z, total + d)
        else:
            for position, (x, d) in enumerate(zip(node.inputs, partials(node, g))):
                if not x.requires_grad: continue
                if d.shape != seeds + x.shape: d = fitted(d, node, position, seeds)
                if not (yield node, position, g, d):
                    total = get(x)
                    if type(d) is Indexed:
                        if x not in owned: own(x, np.zeros(d.shape, d.g.dtype) if total is None else np.array(total))
                        d.add_to(totals[x])
                    elif total is None: totals[x] = d
                    elif x in owned: total += d
                    else: own(x, total + d)
        if not fits and node.fits and g.size > 1 and all([x.requires_grad for x in node.inputs]):
            op.trusted = op.rules  # every rule has given the shape of its argument, as elementwise rules always do


def partials(node: Tensor, g: Array) -> Sequence[Any]:
    """The contributions of one node to its inputs, None where an input requires no gradient."""
    op, settings = node.op, node.settings or {}
    if op.joint:
        return list(op.joint(g, *node.saved, **settings))
    return [rule(g, *node.saved, **settings) if x.requires_grad else None for x, rule in zip(node.inputs, op.rules)]
