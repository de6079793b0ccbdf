"""Floor 5: backpropagation through time taken apart. Where does every number of dE/dW come from, and is it so?

`explain` splits the gradient of one scalar into its explicit part, ∂⁺E/∂W, all paths that cross no recurrence edge,
and its implicit part, all others, and into one term for each step k that uses W: ∂E/∂W⁽ᵏ⁾ (16, 17). Steps and
recurrence edges are read from the scopes, so a hand-written loop with `with scope(t=t):` works as a cell does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..fused import step_by_step
from ..ops import Array
from ..recording import flow, walk
from ..steps import is_recurrence, is_state, step_of
from ..sweep import order
from ..tensor import Tensor
from .tables import Printed, explanation_table
from .uses import Step, made_before, reads, step_of_use


@dataclass(frozen=True, repr=False)
class Explanation(Printed):
    """dE/dW in its parts; all arrays have W's shape. explicit + implicit = total = Σ_k terms[k].

    explicit_terms[k] is what of terms[k] crosses no recurrence edge: as a rule all of it where k = t, else nothing.
    """

    loss: Tensor
    parameter: Tensor
    explicit: Array
    implicit: Array
    total: Array
    terms: dict[Step, Array]
    explicit_terms: dict[Step, Array]

    @property
    def step(self) -> Step:
        """The t of E_t; for a loss made outside the steps that of what was made last of all that it reads."""
        steps = map(step_of, (self.loss, *order([self.loss])))
        return next((t for t in steps if t is not None), None)

    def __repr__(self) -> str:
        return explanation_table(self)


def explain(loss: Tensor, parameter: Tensor) -> Explanation:
    """Take dE/dW apart: `loss` a scalar E, `parameter` any tensor W in its graph that requires a gradient.

    Raises ValueError where E is not a scalar, does not depend on W, or where nothing in the graph has a step.
    """
    reached([loss], parameter)
    one = np.ones((), loss.dtype)
    explicit = np.zeros(parameter.shape)
    carried: dict[Tensor, Array] = {}  # what the recurrence edges would have brought to the states
    for node, position, _, d in walk({loss: one}, lambda n, i: is_recurrence(n, i) or n.inputs[i] is parameter):
        x = node.inputs[position]
        if is_recurrence(node, position):
            carried[x] = carried[x] + d if x in carried else np.asarray(d)
        elif x is parameter:
            explicit = explicit + d
    return Explanation(loss, parameter, explicit, np.array(flow(carried, parameter)),
                       np.array(flow({loss: one}, parameter)), in_order(by_step({loss: one}, parameter)),
                       in_order(by_step({loss: one}, parameter, is_recurrence)))


def by_time(k: Step) -> int:
    return -1 if k is None else k


def in_order(terms: Iterable[tuple[Step, Array]]) -> dict[Step, Array]:
    return {k: np.array(d) for k, d in sorted(terms, key=lambda term: by_time(term[0]))}


def by_step(seeds: dict[Tensor, Array], parameter: Tensor,
            cut: Callable[[Tensor, int], bool] = lambda node, position: False) -> Iterator[tuple[Step, Array]]:
    """(k, the sum of what the uses of W at step k contribute), each k once, as soon as it is complete.

    A tensor made from W before the steps is a use of W at the step that reads it. Seeds are (seeds..., *shape). Nothing
    goes along the edges at which `cut` answers True.
    """
    nodes = order(seeds)
    before = made_before(nodes, parameter)
    left = Counter(k for k, _ in reads(nodes, parameter, before))
    received: dict[Step, dict[Tensor, Array]] = {k: {} for k in left}

    def reads_it(node: Tensor, position: int) -> bool:
        return node.inputs[position] is parameter or node.inputs[position] in before

    for node, position, _, d in walk(dict(seeds), lambda n, i: cut(n, i) or reads_it(n, i)):
        if reads_it(node, position) and not cut(node, position):
            x, k = node.inputs[position], step_of_use(node, parameter)
            received[k][x] = received[k][x] + d if x in received[k] else np.asarray(d)
            left[k] -= 1
            if not left[k]:
                yield k, flow(received.pop(k), parameter)
    for k, totals in received.items():  # a use that no gradient has reached completes no step
        if totals:
            yield k, flow(totals, parameter)


def scalars(losses: Sequence[Tensor], parameter: Tensor) -> None:
    """TypeError unless all are tensors, ValueError unless all losses are scalars."""
    for x in (*losses, parameter):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected tensors, got {type(x).__name__}")
    for loss in losses:
        if loss.shape != ():
            raise ValueError(f"expected a scalar loss, got {loss!r}")


def reached(losses: Sequence[Tensor], parameter: Tensor) -> None:
    """ValueError unless all losses are scalars, and W is in their graph, and something there has a step."""
    scalars(losses, parameter)
    nodes = order(losses)
    inside = {x for node in nodes for x in node.inputs}
    if parameter not in inside or not parameter.requires_grad:
        raise ValueError(f"{losses[0].name or 'the loss'} does not depend on this {parameter.name or 'parameter'}; "
                         f"in its graph: {contents(nodes)}")
    readers = {step_of(node) for node in nodes if parameter in node.inputs}
    if parameter.op is None and is_state(parameter) and len(readers) > 1:
        raise ValueError(f"{parameter.name or 'the parameter'} was made at step {step_of(parameter)}, as an h_0 is, or "
                         f"an h'_{{T+1}}, but {len(readers)} steps read it: make a weight outside the loop")
    step_by_step(nodes)
    if all(step_of(x) is None for x in (*losses, *inside)):
        raise ValueError("nothing in this graph has a step: put the body of the loop into `with scope(t=t):`")


def contents(nodes: Sequence[Tensor]) -> str:
    """What a graph holds, in words: its parameters, sequences and steps."""
    leaves = {x for node in nodes for x in node.inputs if x.op is None and x.requires_grad}
    parts = [", ".join(sorted({x.name or "an unnamed leaf" for x in leaves})) or "nothing that requires a gradient"]
    if sequences := sorted({str(node.scope["sequence"]) for node in nodes if node.scope.get("sequence")}):
        parts.append(f"the sequence{'s' * (len(sequences) > 1)} {', '.join(sequences)}")
    if steps := sorted({t for node in nodes if (t := step_of(node)) is not None}):
        parts.append(f"steps {steps[0]} … {steps[-1]}")
        if steps[0] > 1:
            parts.append("and nothing of what came before, if it was detached")
    return "; ".join(parts)
