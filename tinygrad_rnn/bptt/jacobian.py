"""Floor 5: state Jacobians ∂s_t/∂s_k, how they shrink or grow with the lag t - k, and what takes the direct path.

A state s is a tensor h (B, H), or a tuple of such, (h, c), then s = [h; c]. All is read from the graph, so that any
cell, lane or hand-written loop will do. Rows of a batch do not influence one another: one sweep with a seed for each
unit, the unit vector e_i in all rows at once, gives row i of every row's Jacobian. (Of a cell that mixes rows it gives
their sum.) Symbols: T time, B batch, H hidden, n and m the sizes of the later and the earlier state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import functional as F
from .. import ops
from ..check import COMPLEX_STEP
from ..ops import Array
from ..recording import walk
from ..replay import evaluate, reached, replay
from ..steps import lane_of, recurrence_edges, step_of, the_lane
from ..sweep import order
from ..tensor import Tensor
from .proof import DIFFERENCES, STEP, TOGETHER, VANISHED, Witness, precision, witness
from .tables import Printed, paragraph, table

State = Tensor | tuple[Tensor, ...]
Edge = tuple[Tensor, int]  # node and input position
Place = tuple[int, int]  # of a state and of one of its parts

PLAIN = {ops.ADD, ops.SUB, ops.NEG, ops.MUL, ops.WHERE,  # numbers times others,
         ops.BROADCAST_TO, ops.RESHAPE, ops.TRANSPOSE, ops.GETITEM, ops.CONCAT, ops.STACK}  # or moved; none mixed
EPSILON = float(np.finfo(np.float64).eps)
DIRECTIONS = 8  # random ones, of a state
SLOPES: dict[str, tuple[Callable[[Array], Any], float]] = {  # φ' from h = φ(z), and γ, its supremum
    "tanh": (lambda h: 1 - h * h, 1.0), "sigmoid": (lambda h: h * (1 - h), 0.25),
    "relu": (lambda h: 1.0 * (h > 0), 1.0)}


def states(root: State, **where: Any) -> dict[int, State]:
    """{t: s_t} of one recurrence, in the order in which its steps were made: states(output)[3] is h_3, or (h_3, c_3).

    root: anything computed from the run, or its last state. where: which recurrence, as layer=0, direction="backward"
    or sequence="encoder", where the graph has more than one. A state is what one step reads of another; of the last
    step, which none reads, what is called the same, or, where a part has no name, `root` if it is that state. The parts
    stand in the order in which those of the first state were made: h, then c. Raises ValueError where no recurrence, or
    more than one, answers to `where`, naming those there are.
    """
    nodes = order(parts_of(root))
    edges = sorted(recurrence_edges(nodes), key=lambda edge: (edge[0].index, edge[1]))
    lane = the_lane(edges, where)
    carried: dict[int, list[Tensor]] = {}  # a step reads the parts in the same order as any other
    for node, i in edges:
        x = node.inputs[i]
        if lane_of(node) == lane and x not in (parts := carried.setdefault(x.scope["t"], [])):
            parts.append(x)
    start = next(iter(carried.values()))
    places = sorted(range(len(start)), key=lambda place: start[place].index)
    found = {t: [parts[i] for i in places] for t, parts in carried.items() if len(parts) == len(places)}
    here = [x for x in nodes if lane_of(x) == lane and step_of(x) is not None]  # the newest first
    last = here[0].scope["t"]
    if last not in found:
        ending = {part_name(x): x for x in reversed(here) if step_of(x) == last}
        names = [part_name(x) for x in found[next(reversed(found))]]
        given = [x for x in parts_of(root) if x in here and step_of(x) == last]
        ends = given if "" in names else [ending[name] for name in names if name in ending]
        if len(ends) == len(places):
            found[last] = ends
    return {t: tuple(parts) if len(parts) > 1 else parts[0] for t, parts in found.items()}


def part_name(x: Tensor) -> str:
    return (x.name or "").removesuffix("_0")


def parts_of(state: State) -> tuple[Tensor, ...]:
    """The tensors (B, H) of a state. Raises TypeError and ValueError for anything else."""
    parts = state if isinstance(state, tuple) else (state,)
    for x in parts:
        if not isinstance(x, Tensor):
            raise TypeError(f"a state: expected a Tensor or a tuple of them, got {type(x).__name__}")
    return parts


def joined(wanted: Iterable[State]) -> Tensor:
    """[h; c; …] of all these states, (B, n), as one node."""
    parts = [x for state in wanted for x in parts_of(state)]
    if any(x.ndim != 2 or len(x) != len(parts[0]) for x in parts):
        raise ValueError(f"a state has parts (B, H), got shapes {', '.join(str(x.shape) for x in parts)}")
    root = F.concat(parts, -1)
    if root.op is None:
        raise RuntimeError(f"nothing was recorded of {parts[0].name or 'the later state'}: compute it, and take its "
                           "Jacobian, outside no_grad(), from something that requires a gradient")
    return root


def state_jacobian(later: State, earlier: State, *, direct: bool = False) -> Array:
    """∂s_t/∂s_k (18), (B, n, m): [b, i, j] is the derivative of unit i of the later by unit j of the earlier state.

    direct: only along paths on which each number is at most multiplied by others and added to others, with nothing in
    between but +, -, ∘, where and moving: no matrix product, no tanh, no sigmoid. That is diag Π f from c to c in an
    LSTM (23), diag Π z or Π (1-u) in a GRU (24), 0 in an RNN; the rest, full - direct, takes paths through gates and
    candidates. Exactly 0 where no path leads from one to the other. The parts of `earlier` count as independent of one
    another. Raises TypeError for what is no tensor, ValueError for parts that are not (B, H), RuntimeError where
    nothing was recorded.
    """
    return state_jacobians(later, {0: earlier}, direct=direct)[0]


def state_jacobians(later: State, earlier: Mapping[int, State], *, direct: bool = False) -> dict[int, Array]:
    """{k: ∂s_t/∂s_k} for many earlier states in one sweep; see `state_jacobian`. It keeps (B, n, m) for each."""
    root, ks = joined([later]), list(earlier)
    given = [parts_of(earlier[k]) for k in ks]
    for parts in given:
        if any(x.ndim != 2 or len(x) != len(root) for x in parts):
            raise ValueError(f"the later state has {len(root)} rows, the earlier one the shapes "
                             f"{', '.join(str(x.shape) for x in parts)}; expected (B, H), of one B")
    # The graph between the states alone, in which parameters are constants: a sweep with n seeds pays for them dearly.
    nodes = order([root])
    inside = {x for node in nodes for x in node.inputs}
    wanted = {x: None for parts in given for x in parts if x in inside}
    behind: set[Tensor] = set()
    for node in reversed(nodes):
        if any(x in behind or x in wanted for x in node.inputs):
            behind.add(node)
    first = {x: Tensor(x.data, requires_grad=True) for x in wanted if x not in behind}
    again = replay(root, first)
    twins = first | dict(zip((node for node, _ in reached(root, first)), order([again])[::-1]))
    crossing = crossings(order([again]), [[twins.get(x) for x in parts] for parts in given])
    n, B = root.shape[1], len(root)
    found = [[np.zeros((n, *x.shape), root.dtype) for x in parts] for parts in given]
    seeds = np.repeat(np.eye(n, dtype=root.dtype)[:, None], B, axis=1)

    def cut(node: Tensor, position: int) -> bool:
        return direct and node.op not in PLAIN and not (node.op is ops.DIV and position == 0)

    for node, position, _, d in walk({again: seeds}, cut) if first else ():
        if not cut(node, position):
            for state, part in crossing.get((node, position), ()):
                found[state][part] += np.asarray(d)
    return {k: np.ascontiguousarray(np.concatenate(parts, -1).swapaxes(0, 1)) for k, parts in zip(ks, found)}


def crossings(nodes: list[Tensor], given: Sequence[Sequence[Tensor | None]]) -> dict[Edge, list[Place]]:
    """The edges by which what comes after a state reads a part of it. c_t on its way into h_t does not come after."""
    places: dict[Tensor, list[Place]] = {}
    before = []
    for state, parts in enumerate(given):
        present = [x for x in parts if x is not None]
        before.append(made_of(present))
        for part, x in enumerate(parts):
            if x is not None:
                places.setdefault(x, []).append((state, part))
    found: dict[Edge, list[Place]] = {}
    for node in nodes:
        for i, x in enumerate(node.inputs):
            if its := [place for place in places.get(x, ()) if node not in before[place[0]]]:
                found[node, i] = its
    return found


def made_of(parts: Sequence[Tensor]) -> set[Tensor]:
    """The parts of a state and all that they are made of, as far back as the oldest of them."""
    found, oldest = list(parts), min((x.index for x in parts), default=0)
    seen = set(found)
    for x in found:
        fresh = [y for y in x.inputs if y.index > oldest and y not in seen]
        seen.update(fresh)
        found += fresh
    return seen


# ------------------------------------------------------------------------------------------------------------- measures
def singular_values(J: Array) -> Array:
    """Of J (..., n, m), the largest first, whatever its scale. nan where J is not finite."""
    return scaled(J, lambda A: np.linalg.svd(A, compute_uv=False))


def spectral_norm(J: Array) -> Array:
    """‖J‖ = σ_1, how much J (..., n, m) stretches a vector at most; nan where J is not finite.

    Its square is the largest eigenvalue of J Jᵀ, to the last digits but one, and found faster than all σ.
    """
    return scaled(J, lambda A: np.sqrt(np.linalg.eigvalsh(A @ A.mT)[..., -1:]))[..., 0]


def scaled(J: Array, measure: Callable[[Array], Array]) -> Array:
    """measure(J) for a measure that grows as J does, where squares of J would leave the range of floats."""
    size = np.abs(J).max(axis=(-2, -1), keepdims=True, initial=0.0)
    fine = np.isfinite(size)
    scale = np.where(fine & (size > 0), size, 1.0)
    found: Array = np.where(fine[..., 0], measure(np.where(fine, J, 0.0) / scale) * scale[..., 0], np.nan)
    return found


def spectral_radius(J: Array) -> Array:
    """The largest |eigenvalue| of J (..., n, n): at most ‖J‖, and what decides how Jᵏ grows; nan if not finite."""
    return scaled(J, lambda A: np.abs(np.linalg.eigvals(A)).max(-1, keepdims=True))[..., 0]


def bounds(W: Array, h: Array, nonlinearity: str = "tanh") -> tuple[Array, Array]:
    """Equation 21 for an RNN: Π ‖D_j W‖ (T, B) and (γλ)^lag (T,), for the lags 1 … T back from h_T.

    W (H, H), h (T, B, H) the states h_1 … h_T; D_j = diag φ'(z_j), γ = sup |φ'|, λ the largest singular value of W.
    ‖∂s_T/∂s_k‖ ≤ Π ‖D_j W‖ ≤ (γλ)^(T-k): γλ < 1 is enough to vanish, γλ > 1 not enough to explode. They are computed by
    their logarithms, and reach 0 or inf only past the range of floats. Raises ValueError for an unknown nonlinearity.
    """
    if nonlinearity not in SLOPES:
        raise ValueError(f"nonlinearity {nonlinearity!r}: expected one of {', '.join(SLOPES)}")
    slope, gamma = SLOPES[nonlinearity]
    D = slope(h)[::-1]  # the newest step first
    with np.errstate(divide="ignore", over="ignore"):
        tight = np.exp(np.cumsum(np.log(spectral_norm(W * D[..., None, :])), axis=0))
        loose = np.exp(np.log(gamma * spectral_norm(W)) * np.arange(1, len(h) + 1))
    return tight, loose


# ------------------------------------------------------------------------------------------------------- by lag, proved
@dataclass(frozen=True, repr=False)
class Decay(Printed):
    """∂s_T/∂s_k of one recurrence for every lag T - k = 1, 2, …, K.

    states: {t: s_t}. jacobians and direct, (K, B, n, n): the whole and the direct path, [0] is lag 1. norms,
    direct_norms and gate_norms (full - direct), (K, B): spectral.
    """

    states: dict[int, State]
    jacobians: Array
    direct: Array

    @cached_property
    def norms(self) -> Array: return spectral_norm(self.jacobians)
    @cached_property
    def direct_norms(self) -> Array: return spectral_norm(self.direct)
    @cached_property
    def gate_norms(self) -> Array: return spectral_norm(self.jacobians - self.direct)

    def __repr__(self) -> str:
        rows = []
        for lag in shown_lags(len(self.norms)):
            J, size, straight, gates = (a[lag - 1] for a in
                                        (self.jacobians, self.norms, self.direct_norms, self.gate_norms))
            b = int(np.argmax(size))
            *_, least = singular_values(J[b])
            told = least > len(J[b]) * EPSILON * size[b]
            rows.append([str(lag), f"{size[b]:.3g}", f"{size[b] ** (1 / lag):.3f}", f"{spectral_radius(J[b]):.3g}",
                         f"{least:.1e}" if told else "–", f"{straight[b]:.3g}", f"{gates[b]:.3g}"])
        several = ", in the row of the batch where it is largest" if self.norms.shape[1] > 1 else ""
        return "\n".join([
            f"∂s_T/∂s_k by lag T - k, T = {next(reversed(self.states))}", "",
            table(["lag", "‖·‖", "a step", "radius", "smallest σ", "direct", "by gates"], rows), "",
            paragraph(f"‖·‖: the largest singular value{several}; a step: its root, how much each step shrinks (< 1) "
                      "or stretches (> 1).  radius: the largest |eigenvalue|.  –: lost in rounding.  direct: the norm "
                      "along the direct path alone, only multiplied and added to; by gates: of all else. Norms do not "
                      "add up.")])


def shown_lags(count: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, … up to `count`, and `count`."""
    found = [m * 10**e for e in range(len(str(count))) for m in (1, 2, 5) if m * 10**e < count]
    return [*found, count]


def decay(root: State, **where: Any) -> Decay:
    """Measure one recurrence in the graph of `root`, which `where` names as in `states`: two sweeps for all lags.

    Raises ValueError as `states` does.
    """
    found = states(root, **where)
    *ks, last = found
    earlier = {k: found[k] for k in reversed(ks)}
    full, straight = (np.stack(list(state_jacobians(found[last], earlier, direct=direct).values()))
                      for direct in (False, True))
    return Decay(found, full, straight)


def prove_decay(d: Decay) -> list[Witness]:
    """The Jacobians by routes that share no derivative with the sweep, each lag by its own size.

    Every lag and element by the product of one-step Jacobians J_T … J_{k+1} (18), each from a complex step with all
    states held; the lags that the table shows also from s_k through to s_T, along random directions u, (∂s_T/∂s_k) u:
    by complex steps, and by fourth-order differences where these can be told from rounding. What has shrunk below
    1e-250 is compared with nothing.
    """
    *ks, last = d.states
    root, rng = joined([d.states[last]]), np.random.default_rng(0)
    exact = precision(root)
    product, through, apart, whole = [], [], [], np.eye(root.shape[1])
    for J, ours in zip(one_steps(d.states), d.jacobians):
        whole = whole @ J
        product.append(witness("every lag", "product of one-step Jacobians (18)", "forward pass, scopes", ours, whole,
                               exact))
    inside = {x for node in order([root]) for x in node.inputs}
    for lag in shown_lags(len(ks)):
        u, parts = rng.normal(size=(DIRECTIONS, root.shape[1])), parts_of(d.states[ks[-lag]])
        ours, directions = d.jacobians[lag - 1] @ u.T, f"{DIRECTIONS} directions"

        def s(steps: Array, u: Array = u, parts: tuple[Tensor, ...] = parts) -> Array:
            """s_T, (steps, B, n, directions), where s_k has moved by each of the steps along u."""
            along = (steps[:, None, None] * u).reshape(-1, u.shape[1])
            at = {x: a for x, a in zip(parts, moved(parts, along)) if x in inside}
            values = evaluate(root, at) if at else np.zeros((len(along), *root.shape))
            return np.moveaxis(values.reshape(len(steps), len(u), *root.shape), 1, -1)

        through.append(witness("the lags shown", f"complex step, {directions}", "forward pass", ours,
                               s(np.array([1j * COMPLEX_STEP]))[0].imag / COMPLEX_STEP, exact))
        far_back, back, ahead, far_ahead = s(STEP * np.array([-2.0, -1.0, 1.0, 2.0]))
        slope = (8 * (ahead - back) - (far_ahead - far_back)) / (12 * STEP)
        off = float(np.abs((ahead - back) / (2 * STEP) - slope).max() / (np.abs(slope).max() or 1.0))
        apart.append(witness("lags above rounding", f"differences, {directions}", "forward pass", ours, slope,
                             DIFFERENCES + 5 * off**2, 4e-16 * float(np.abs(root.data).max()) / STEP))
    told = ~(np.abs(d.jacobians).max(axis=(1, 2, 3)) < VANISHED)  # nan is told
    routes = ([w for w, big in zip(product, told) if big],
              [w for w, lag in zip(through, shown_lags(len(ks))) if told[lag - 1]],
              [w for w in apart if w.tolerance < 10 * DIFFERENCES])
    return [max(route, key=lambda w: (np.isnan(w.error), w.error)) for route in routes if route]


def one_steps(found: Mapping[int, State]) -> Iterator[Array]:
    """J_T, J_{T-1}, …: (B, n, n) each, of the states given in their order, by a complex step.

    With every state held where the next step reads it, s_t depends on s_{t-1} alone: all are moved at once.
    """
    ts = list(found)
    for stop in range(len(ts), 1, -TOGETHER):
        start = max(stop - TOGETHER, 1)
        later, earlier = [found[t] for t in ts[start:stop]], [found[t] for t in ts[start - 1:stop - 1]]
        root = joined(later)
        given = [parts_of(state) for state in earlier]
        copies = [moved(parts, 1j * COMPLEX_STEP * np.eye(root.shape[1] // len(later))) for parts in given]
        edges = crossings([node for node in order([root]) if node is not root], given)
        at = {edge: copies[state][part] for edge, ((state, part), *_) in edges.items()}
        yield from np.split(slopes(root, at, len(copies[0][0])), len(later), axis=1)[::-1]


def moved(parts: Sequence[Tensor], u: Array) -> list[Array]:
    """The parts of a state, (P, B, H) each, all rows of which copy p has moved by u[p], (P, m)."""
    places = np.cumsum([x.shape[1] for x in parts])[:-1]
    return [x.data + along[:, None] for x, along in zip(parts, np.split(u, places, axis=1))]


def slopes(root: Tensor, at: Mapping[Any, Array], copies: int) -> Array:
    """How the value of `root` changes with the substitutions, which moved by ih: (B, n, P), 0 if nothing is moved."""
    values = evaluate(root, at).imag / COMPLEX_STEP if at else np.zeros((copies, *root.shape))
    return values.transpose(1, 2, 0)
