"""Floor 5: witnesses for an explanation. Each reaches the same numbers by another way, and says what it shares.

A witness that shares the forward pass cannot see a wrong forward equation; one that shares the rules cannot see a wrong
rule; one that shares the wiring cannot see h_t where h_{t-1} is meant. Only plain NumPy with a forward pass of its own
(`reference`) sees all three.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops import Array
from ..replay import evaluate, replay
from ..steps import recurrence_edges
from ..tensor import Tensor, order, sweep
from .parts import Explanation, Step, uses
from .reference import RNN
from .tables import proof_table, subscript

EXACT, DIFFERENCES = 1e-12, 1e-7  # what the routes must agree to, as max |a - b| / max |b|
WORTHLESS = 1e-3  # differences that allow more are left out: the gradient is too small to be told from rounding
COMPLEX_STEP, STEP = 1e-20, 3e-4
LARGEST = 1 << 19  # numbers in one array of a batched evaluation


@dataclass(frozen=True)
class Witness:
    """One route to one part of the gradient: its largest error relative to the largest number, and what it shares."""

    part: str
    route: str
    shares: str
    error: float
    tolerance: float

    def __bool__(self) -> bool:
        return bool(self.error <= self.tolerance)  # a nan is no proof


@dataclass(frozen=True)
class Proof:
    """An explanation and its witnesses. True when all agree with it."""

    explanation: Explanation
    witnesses: tuple[Witness, ...]

    def __bool__(self) -> bool:
        return all(self.witnesses)

    def __str__(self) -> str:
        return proof_table(self)


def prove(explanation: Explanation, reference: RNN | None = None) -> Proof:
    """Bring the witnesses: every element of every part, by routes that share less and less with the engine.

    reference: the same model in plain NumPy, for the recursion (16) and the closed form (22). Raises ValueError where
    its parameter is not the one explained.
    """
    e, loss, W = explanation, explanation.loss, explanation.parameter
    held = {(node, i): node.inputs[i].data for node, i in recurrence_edges(order([loss]))}
    found = [
        witness("explicit + implicit", "their sum is the total", "the sweep", e.explicit + e.implicit, e.total),
        witness("terms", "their sum is the total", "the sweep", sum(e.terms.values()), e.total),
        witness("explicit", "earlier states held, complex step", "forward pass, scopes", e.explicit,
                slopes(loss, W, held)),
        each_term(e, "own copies of W, swept", "forward pass, scopes, every rule", untied(e)),
        along(e, "own copies of W, complex step", "forward pass, scopes"),
        witness("total", "complex step, every element", "forward pass", e.total, slopes(loss, W)),
        witness("total", "differences, every element", "forward pass", e.total, slopes(loss, W, differences=True),
                DIFFERENCES, noise=4e-16 * abs(float(loss.data)) / STEP),
    ]
    found = [w for w in found if w.tolerance < WORTHLESS]
    return Proof(e, (*found, *(by_reference(e, reference) if reference else ())))


def witness(part: str, route: str, shares: str, ours: Any, theirs: Any, tolerance: float = EXACT,
            noise: float = 0.0) -> Witness:
    """Compare; `noise` is the rounding of the route itself, and raises what is allowed where gradients are small."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Witness(part, route, shares, float("nan"), tolerance)
    difference = np.abs(ours - theirs).max(initial=0.0)
    size = max(np.abs(theirs).max(initial=0.0), np.abs(ours).max(initial=0.0)) or 1.0  # 0 agrees with 0 alone
    return Witness(part, route, shares, float(difference / size), float(tolerance + noise / size))


def each_term(e: Explanation, route: str, shares: str, theirs: dict[Step, Array]) -> Witness:
    """Compare the terms step by step, each by its own size: a vanishing term has to be right too."""
    zero = np.zeros(e.total.shape)
    found = [witness("terms", route, shares, e.terms.get(k, zero), theirs.get(k, zero)) for k in {**e.terms, **theirs}]
    return max(found, key=lambda w: (np.isnan(w.error), w.error))


def slopes(loss: Tensor, W: Tensor, held: Mapping[Any, Array] | None = None, differences: bool = False) -> Array:
    """dE/dW at every element by running the recorded forward pass again, with the arrays in `held` fixed.

    By the complex step Im E(w + ih)/h, or by fourth-order central differences.
    """
    gradient = np.empty(W.size)
    chunk = max(1, LARGEST // max(W.size, 64))
    for start in range(0, W.size, chunk):
        elements = np.arange(start, min(start + chunk, W.size))
        fixed = {key: np.broadcast_to(x, (len(elements), *x.shape)) for key, x in (held or {}).items()}

        def E(step: complex, elements: Array = elements, fixed: dict[Any, Array] = fixed) -> Array:
            moved = np.repeat(W.data.reshape(1, -1), len(elements), 0).astype(complex if step.imag else W.dtype)
            moved[np.arange(len(elements)), elements] += step if step.imag else step.real
            return evaluate(loss, {W: moved.reshape(-1, *W.shape), **fixed})

        if differences:
            near, far = E(STEP) - E(-STEP), E(2 * STEP) - E(-2 * STEP)
            gradient[elements] = (8 * near - far) / (12 * STEP)
        else:
            gradient[elements] = E(1j * COMPLEX_STEP).imag / COMPLEX_STEP
    return gradient.reshape(W.shape)


def untied(e: Explanation) -> dict[Step, Array]:
    """The gradient of each copy of W when every step reads a copy of its own."""
    copies: dict[Step, Tensor] = {}
    substitutions: dict[Any, Tensor] = {}
    for k, edges in uses(e.loss, e.parameter).items():
        copy = copies[k] = Tensor(e.parameter.data, requires_grad=True)
        for node, i in edges:
            x = node.inputs[i]
            substitutions[node, i] = copy if x is e.parameter else replay(x, {e.parameter: copy})
    totals = {replay(e.loss, substitutions): np.ones(())}
    deque(sweep(totals), maxlen=0)
    return {k: totals.get(copy, np.zeros(copy.shape)) for k, copy in copies.items()}


def along(e: Explanation, route: str, shares: str) -> Witness:
    """<term k, u> against the derivative of E as the copy of W that step k reads moves along u; two random u a step.

    Both are measured by Σ |term k ∘ u|, the size of what is summed.
    """
    rng = np.random.default_rng(0)
    W, zero = e.parameter, np.zeros(e.parameter.shape)
    read = uses(e.loss, W)
    found = []
    for k in {**e.terms, **read}:
        u = rng.normal(size=(2, *W.shape))
        moved = W.data + 1j * COMPLEX_STEP * u
        copies = {(node, i): moved if node.inputs[i] is W else evaluate(node.inputs[i], {W: moved})
                  for node, i in read.get(k, [])}
        slope = evaluate(e.loss, copies).imag / COMPLEX_STEP if copies else np.zeros(2)
        parts = (e.terms.get(k, zero) * u).reshape(2, -1)
        size = np.maximum(np.abs(parts).sum(1), np.abs(slope))
        with np.errstate(invalid="ignore"):
            found.append(np.abs(parts.sum(1) - slope) / np.where(size == 0, 1, size))
    return Witness("terms", route, shares, float(np.max(found)), EXACT)


def by_reference(e: Explanation, reference: RNN) -> list[Witness]:
    """What plain NumPy says: E_t itself, the parts by the recursion (16), the terms by the closed form (22)."""
    name, t = e.parameter.name, e.step
    known = name in ("U", "W", "b", "V", "c", "h_0")
    if name is None or t is None or not known or not np.array_equal(getattr(reference, name), e.parameter.data):
        raise ValueError(f"prove: the reference has no parameter {name!r} with the values explained")
    split, closed = reference.recursion(t, name), reference.closed_form(t, name)
    terms: dict[Step, Array] = {None: np.sum(list(closed.values()), 0)} if None in e.terms else dict(closed.items())
    return [
        witness(subscript("E", t), "plain NumPy", "nothing", e.loss.data, reference.forward()[2][t - 1]),
        witness("explicit", "recursion (16), run forward", "nothing", e.explicit, split.explicit),
        witness("implicit", "recursion (16), run forward", "nothing", e.implicit, split.implicit),
        witness("total", "recursion (16), run forward", "nothing", e.total, split.total),
        each_term(e, "closed form (22)", "nothing", terms),
    ]
