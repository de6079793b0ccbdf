"""Floor 5: witnesses for an explanation. Each reaches the same numbers by another way, and says what it shares.

A witness that shares the forward pass cannot see a wrong forward equation; one that shares the rules cannot see a wrong
rule; one that shares the wiring cannot see h_t where h_{t-1} is meant. Only plain NumPy with a forward pass of its own
(`reference`) sees all three.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ops
from ..check import COMPLEX_STEP
from ..ops import Array
from ..replay import evaluate, replay
from ..steps import recurrence_edges
from ..sweep import order, sweep
from ..tensor import Tensor
from .gated import Gated
from .parts import Explanation
from .reference import RNN, BiRNN
from .tables import Printed, proof_table, subscript
from .uses import Step, uses

EXACT, DIFFERENCES = 1e-12, 1e-7  # what the routes must agree to, as max |a - b| / max |b|
STEEP, FLAT = 1e-11, 2.5e-5  # the same where a unit's slope, as of tanh at |z| ≥ 6, is so flat that it has lost digits
WORTHLESS = 1e-3  # differences that allow more are left out: the gradient is too small to be told from rounding
STEP = 3e-4  # of the differences, whose error is of fourth order
VANISHED = 1e-250  # what is smaller loses its digits at the end of float64's range: the complex step is 1e-20 of it
MOST = 4096  # elements that are moved one by one; of more, as many random directions
TOGETHER = 16  # steps whose copies of W are moved in one evaluation
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


@dataclass(frozen=True, repr=False)
class Proof(Printed):
    """An explanation and its witnesses. True when all agree with it."""

    explanation: Explanation
    witnesses: tuple[Witness, ...]

    def __bool__(self) -> bool:
        return all(self.witnesses)

    def __repr__(self) -> str:
        return proof_table(self)


def prove(explanation: Explanation, reference: RNN | BiRNN | Gated | None = None) -> Proof:
    """Bring the witnesses: every element of every part, by routes that share less and less with the engine.

    reference: the same model in plain NumPy, for the recursion (16) and the closed form (22), or for the derivation
    (25) of a BiRNN. Raises ValueError where its parameter is not the one explained.
    """
    e, loss, W = explanation, explanation.loss, explanation.parameter
    if loss.dtype != np.float64:
        raise ValueError(f"prove: the graph is in {loss.dtype}, whose rounding hides mistakes; expected float64")
    held = {(node, i): node.saved[1 + i] for node, i in recurrence_edges(order([loss]))}
    exact = STEEP if is_steep(loss) else EXACT
    ours, theirs, off = slopes(e, e.total, differences=True)
    how = "every element" if W.size <= MOST else f"{MOST} directions"
    found = [
        witness("explicit + implicit", "their sum is the total", "the sweep", e.explicit + e.implicit, e.total),
        witness("terms", "their sum is the total", "the sweep", sum(e.terms.values()), e.total),
        witness("explicit", "other steps held, complex step", "forward pass, scopes",
                *slopes(e, e.explicit, held)[:2], exact),
        each_term(e, "own copies of W, swept", "forward pass, scopes, every rule", untied(e), exact),
        along(e, "own copies of W, complex step", "forward pass, scopes", exact),
        witness("total", f"complex step, {how}", "forward pass", *slopes(e, e.total)[:2], exact),
        witness("total", f"differences, {how}", "forward pass", ours, theirs, DIFFERENCES + 5 * off**2,
                noise=4e-16 * abs(float(loss.data)) / STEP),
    ]
    found = [w for w in found if w.tolerance < WORTHLESS]
    return Proof(e, (*found, *(by_reference(e, reference, exact) if reference else ())))


def is_steep(loss: Tensor) -> bool:
    """Is a tanh or sigmoid of the graph so flat somewhere that 1 - y² or y - y² has lost digits in every route?"""
    slopes = [1 - node.data**2 if node.op is ops.TANH else node.data - node.data**2
              for node in order([loss]) if node.op in (ops.TANH, ops.SIGMOID)]
    return any(slope.min(initial=1.0) < FLAT for slope in slopes)


def value_of(e: Explanation) -> Array:
    """W as the forward pass saw it, whatever an optimiser has done to it since."""
    node, i = next((node, i) for node in order([e.loss]) for i, x in enumerate(node.inputs) if x is e.parameter)
    seen: Array = node.saved[1 + i]
    return seen


def witness(part: str, route: str, shares: str, ours: Any, theirs: Any, tolerance: float = EXACT,
            noise: float = 0.0) -> Witness:
    """Compare; `noise` is the rounding of the route itself, and raises what is allowed where gradients are small."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Witness(part, route, shares, float("nan"), tolerance)
    difference = np.abs(ours - theirs).max(initial=0.0)
    size = max(np.abs(theirs).max(initial=0.0), np.abs(ours).max(initial=0.0)) or 1.0  # 0 agrees with 0 alone
    return Witness(part, route, shares, float(difference / size), float(tolerance + noise / size))


def each_term(e: Explanation, route: str, shares: str, theirs: dict[Step, Array], tolerance: float) -> Witness:
    """Compare the terms step by step, each by its own size: a vanishing term has to be right too."""
    zero = np.zeros(e.total.shape)
    pairs = [(e.terms.get(k, zero), theirs.get(k, zero)) for k in {**e.terms, **theirs}]
    found = [witness("terms", route, shares, ours, its, tolerance) for ours, its in pairs
             if not max(np.abs(ours).max(initial=0.0), np.abs(its).max(initial=0.0)) < VANISHED]
    if not found:
        return witness("terms", route, shares, zero, zero)
    return max(found, key=lambda w: (np.isnan(w.error), w.error))


def slopes(e: Explanation, part: Array, held: Mapping[Any, Array] | None = None,
           differences: bool = False) -> tuple[Array, Array, float]:
    """`part` and dE/dW, as `derivative` finds it."""
    return derivative(e.loss, value_of(e), [e.parameter], part, held or {}, differences)


def derivative(loss: Tensor, W: Array, moved: Sequence[Any], part: Array, held: Mapping[Any, Array],
               differences: bool) -> tuple[Array, Array, float]:
    """`part` and dE/dW by running the recorded forward pass again, element by element.

    moved: what W stands in for, the parameter itself or some of the edges that read it. The arrays in `held` are fixed.
    By the complex step Im E(w + ih)/h, or by fourth-order central differences; then the third number says by how much,
    relatively, the second-order ones are off. Of a W of more than MOST elements, along as many random directions.
    """
    rng = np.random.default_rng(0)
    count = min(W.size, MOST)
    gradient, coarse = np.empty(count), np.empty(count)
    directions = None if W.size <= MOST else rng.normal(size=(count, W.size)) / np.sqrt(W.size)
    chunk = max(1, LARGEST // max(W.size, 64))
    for start in range(0, count, chunk):
        rows = np.arange(start, min(start + chunk, count))
        fixed = {key: np.broadcast_to(x, (len(rows), *x.shape)) for key, x in held.items()}

        def E(step: complex, rows: Array = rows, fixed: dict[Any, Array] = fixed) -> Array:
            copies = np.repeat(W.reshape(1, -1), len(rows), 0).astype(complex if isinstance(step, complex) else W.dtype)
            if directions is None:
                copies[np.arange(len(rows)), rows] += step
            else:
                copies += step * directions[rows]
            return evaluate(loss, {**dict.fromkeys(moved, copies.reshape(-1, *W.shape)), **fixed})

        if differences:
            near, far = E(STEP) - E(-STEP), E(2 * STEP) - E(-2 * STEP)
            gradient[rows], coarse[rows] = (8 * near - far) / (12 * STEP), near / (2 * STEP)
        else:
            gradient[rows] = E(1j * COMPLEX_STEP).imag / COMPLEX_STEP
    off = float(np.abs(coarse - gradient).max() / (np.abs(gradient).max() or 1.0)) if differences else 0.0
    if directions is None:
        return part, gradient.reshape(W.shape), off
    return directions @ part.ravel(), gradient, off


def untied(e: Explanation) -> dict[Step, Array]:
    """The gradient of each copy of W when every step reads a copy of its own."""
    copies: dict[Step, Tensor] = {}
    substitutions: dict[Any, Tensor] = {}
    for k, edges in uses([e.loss], e.parameter).items():
        copy = copies[k] = Tensor(value_of(e), requires_grad=True)
        for node, i in edges:
            x = node.inputs[i]
            substitutions[node, i] = copy if x is e.parameter else replay(x, {e.parameter: copy})
    totals = {replay(e.loss, substitutions): np.ones(())}
    deque(sweep(totals), maxlen=0)
    return {k: totals.get(copy, np.zeros(copy.shape)) for k, copy in copies.items()}


def along(e: Explanation, route: str, shares: str, tolerance: float) -> Witness:
    """<term k, u> against the derivative of E as the copy of W that step k reads moves along u; two random u a step.

    Both are measured by Σ |term k ∘ u|, the size of what is summed.
    """
    rng = np.random.default_rng(0)
    W, zero, value = e.parameter, np.zeros(e.parameter.shape), value_of(e)
    read = uses([e.loss], W)
    steps = list({**e.terms, **read})
    worst = 0.0
    for start in range(0, len(steps), TOGETHER):
        group = steps[start:start + TOGETHER]
        u = rng.normal(size=(len(group), 2, *W.shape))
        copies: dict[Any, Array] = {}
        for place, k in enumerate(group):  # rows 2·place and 2·place + 1 move the copy of step k, and that alone
            moved = np.repeat(value[None].astype(complex), 2 * len(group), axis=0)
            moved[2 * place:2 * place + 2] += 1j * COMPLEX_STEP * u[place]
            for node, i in read.get(k, []):
                copies[node, i] = moved if node.inputs[i] is W else evaluate(node.inputs[i], {W: moved})
        slope = evaluate(e.loss, copies).imag.reshape(-1, 2) / COMPLEX_STEP if copies else np.zeros((len(group), 2))
        parts = (np.stack([e.terms.get(k, zero) for k in group])[:, None] * u).reshape(len(group), 2, -1)
        size = np.maximum(np.maximum(np.abs(parts).sum(-1), np.abs(slope)), VANISHED)
        with np.errstate(invalid="ignore"):
            worst = float(np.maximum(worst, (np.abs(parts.sum(-1) - slope) / size).max()))
    return Witness("terms", route, shares, worst, tolerance)


def by_reference(e: Explanation, reference: RNN | BiRNN | Gated, exact: float) -> list[Witness]:
    """What plain NumPy says: E_t, the parts by the recursion (16), the terms by the closed form (22); or by (25)."""
    name, t = e.parameter.name, e.step
    theirs = reference.parameters().get(name or "")
    if name is None or t is None or theirs is None or not np.array_equal(theirs, value_of(e)):
        raise ValueError(f"prove: the reference has no parameter {name!r} with the values explained")
    if isinstance(reference, BiRNN):
        split, by, form = reference.split(t, name), "derivation (25)", "derivation (25)"
    else:
        equation = reference.equation if isinstance(reference, Gated) else "22"
        split, by, form = reference.recursion(t, name), "recursion (16), run forward", f"closed form ({equation})"
    closed = reference.closed_form(t, name)
    terms: dict[Step, Array] = {None: np.sum(list(closed.values()), 0)} if None in e.terms else dict(closed.items())
    return [
        witness(subscript("E", t), "plain NumPy", "nothing", e.loss.data, reference.forward()[-1][t - 1]),
        witness("explicit", by, "nothing", e.explicit, split.explicit, exact),
        witness("implicit", by, "nothing", e.implicit, split.implicit, exact),
        witness("total", by, "nothing", e.total, split.total, exact),
        each_term(e, form, "nothing", terms, exact),
    ]
