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
from ..steps import is_recurrence, recurrence_edges, step_of
from ..sweep import order, sweep
from ..tensor import Tensor
from .gated import Gated
from .parts import Explanation
from .reference import RNN, BiRNN
from .tables import Printed, proof_table, subscript, summands
from .uses import Step, Use, uses

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
    (25) of a BiRNN; of a sum of losses it takes the sum. Raises ValueError where its parameter is not the one
    explained, or it has no such loss.
    """
    e, loss, W = explanation, explanation.loss, explanation.parameter
    if loss.dtype != np.float64:
        raise ValueError(f"prove: the graph is in {loss.dtype}, whose rounding hides mistakes; expected float64")
    held = {(node, i): node.saved[1 + i] for node, i in recurrence_edges(order([loss]))}
    exact = precision(loss)
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


def precision(loss: Tensor) -> float:
    """What exact routes may differ by: less is lost unless 1 - y² or y - y² of a tanh or sigmoid is next to 0."""
    slopes = [1 - node.data**2 if node.op is ops.TANH else node.data - node.data**2
              for node in order([loss]) if node.op in (ops.TANH, ops.SIGMOID)]
    return STEEP if any(slope.min(initial=1.0) < FLAT for slope in slopes) else EXACT


def value_of(losses: Sequence[Tensor], parameter: Tensor) -> Array:
    """W as the forward pass saw it, whatever an optimiser has done to it since."""
    seen: Array = next(node.saved[1 + i] for node in order(losses) for i, x in enumerate(node.inputs)
                       if x is parameter)
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
    return derivative(e.loss, value_of([e.loss], e.parameter), [e.parameter], part, held or {}, differences)


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
        copy = copies[k] = Tensor(value_of([e.loss], e.parameter), requires_grad=True)
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
    W, zero = e.parameter, np.zeros(e.parameter.shape)
    read = uses([e.loss], W)
    steps = list({**e.terms, **read})
    u = np.random.default_rng(0).normal(size=(len(steps), 2, *W.shape))
    slope = copies_moved(e.loss, W, value_of([e.loss], e.parameter), [read.get(k, []) for k in steps], u)
    parts = (np.stack([e.terms.get(k, zero) for k in steps])[:, None] * u).reshape(len(steps), 2, -1)
    return Witness("terms", route, shares, apart(parts.sum(-1), slope, np.abs(parts).sum(-1)), tolerance)


def copies_moved(root: Tensor, W: Tensor, value: Array, read: Sequence[list[Use]], u: Array) -> Array:
    """How `root` changes as the copy of W that each step reads, and that alone, moves: (steps, 2, *root.shape).

    read: the edges of each step; u (steps, 2, *W.shape): along what, twice for each step. By the complex step.
    """
    found = np.zeros((len(read), 2, *root.shape))
    for start in range(0, len(read), TOGETHER):
        group = read[start:start + TOGETHER]
        copies: dict[Any, Array] = {}
        for place, edges in enumerate(group):  # rows 2·place and 2·place + 1 move the copy of this step
            moved = np.repeat(value[None].astype(complex), 2 * len(group), axis=0)
            moved[2 * place:2 * place + 2] += 1j * COMPLEX_STEP * u[start + place]
            for node, i in edges:
                copies[node, i] = moved if node.inputs[i] is W else evaluate(node.inputs[i], {W: moved})
        if copies:
            slopes = evaluate(root, copies).imag / COMPLEX_STEP
            found[start:start + len(group)] = slopes.reshape(len(group), 2, *root.shape)
    return found


def apart(ours: Array, theirs: Array, size: Array) -> float:
    """The largest difference, each by the size of what was summed."""
    with np.errstate(invalid="ignore"):
        return float((np.abs(ours - theirs) / np.maximum(np.maximum(size, np.abs(theirs)), VANISHED)).max(initial=0.0))


def by_reference(e: Explanation, reference: RNN | BiRNN | Gated, exact: float) -> list[Witness]:
    """What plain NumPy says: E_t, the parts by the recursion (16), the terms by the closed form (22); or by (25).

    Of a loss that reads several steps, the sum of their E_t.
    """
    name, ts = e.parameter.name, steps_read(e.loss)
    theirs = reference.parameters().get(name or "")
    if name is None or theirs is None or not np.array_equal(theirs, value_of([e.loss], e.parameter)):
        raise ValueError(f"prove: the reference has no parameter {name!r} with the values explained")
    if not ts or not 1 <= min(ts) <= max(ts) <= len(reference.y):
        raise ValueError(f"prove: the loss reads the steps {ts or 'none'}; the reference has E_1 … "
                         f"E_{len(reference.y)}")
    if isinstance(reference, BiRNN):
        splits, by, form = [reference.split(t, name) for t in ts], "derivation (25)", "derivation (25)"
    else:
        equation = reference.equation if isinstance(reference, Gated) else "22"
        splits, by = [reference.recursion(t, name) for t in ts], "recursion (16), run forward"
        form = f"closed form ({equation})"
    terms: dict[Step, Array] = {}
    for t in ts:
        for k, term in reference.closed_form(t, name).items():
            key = None if None in e.terms else k
            terms[key] = terms[key] + term if key in terms else term
    value, several = sum(reference.forward()[-1][t - 1] for t in ts), f"Σ E_t, {len(ts)} steps"
    return [
        witness(subscript("E", ts[0]) if len(ts) == 1 else several, "plain NumPy", "nothing", e.loss.data, value),
        *(witness(part, by, "nothing", getattr(e, part), sum(getattr(split, part) for split in splits), exact)
          for part in ("explicit", "implicit", "total")),
        each_term(e, form, "nothing", terms, exact),
    ]


def steps_read(loss: Tensor) -> list[int]:
    """t of an E_t, and every t of a sum of them; of one made outside the steps all those that it reads."""
    parts, running = summands(loss)
    if running:
        raise ValueError(f"prove: {loss.name or 'the loss'} is a running total made inside the steps, which counts "
                         "as a state; the reference has one loss for each step: add them up outside the steps")
    return sorted(set().union(*({t} if (t := step_of(x)) is not None else near_steps(x) for x in parts)))


def near_steps(x: Tensor) -> set[int]:
    """The steps that x reads without crossing a recurrence edge."""
    near, found = {x}, set[int]()
    for node in order([x]):
        if node in near:
            near |= {y for i, y in enumerate(node.inputs) if not is_recurrence(node, i)}
            found |= {t for y in (node, *node.inputs) if y in near and (t := step_of(y)) is not None}
    return found
