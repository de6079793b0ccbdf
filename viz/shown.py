"""Which gradients a picture shows: those of a recording, or those of one loss alone, along the path of one term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.bptt.tables import norm
from tinygrad_rnn.ops import Array
from tinygrad_rnn.recording import record
from tinygrad_rnn.tensor import Tensor

from . import notation
from .graph import Arc, Column, Edge, Graph, Item


@dataclass(frozen=True)
class Term:
    """One term of a gradient: what `loss`, made at some step, says about the use of `parameter` at step k."""

    loss: Tensor
    parameter: Tensor
    k: int


class Factor(NamedTuple):
    """One factor of a term, and the product of all factors up to it: the gradient at each part of a state."""

    text: str
    gradients: tuple[Array, ...]


def total(arrays: list[Array]) -> Array | None:
    """Their sum, None for none."""
    return sum(arrays[1:], start=arrays[0]) if arrays else None


class Shown:
    """The gradients of a recording; with a term the gradients of its loss, and the nodes and edges on its path.

    Raises ValueError for a loss that is not one number, or where no path leads from that use to it.
    """

    def __init__(self, graph: Graph, term: Term | None) -> None:
        self.graph, self.term, self.recording = graph, term, graph.recording
        self.nodes: set[Tensor] = set()
        self.edges: set[Edge] = set()
        self.uses: list[Edge] = []
        if term is not None:
            self._find_path(term)
            self.recording = record(term.loss, cut={e for e in graph.edges() if graph.is_cut(e)})

    def _find_path(self, term: Term) -> None:
        graph = self.graph
        if term.loss not in graph.number or term.parameter not in graph.number:
            raise ValueError(f"term: its loss and its parameter must be in the graph of {graph.root!r}")
        if term.loss.shape != ():
            raise ValueError(f"term: its loss must be one number, got shape {term.loss.shape}")
        uses = [(node, i) for node, i in graph.readers[term.parameter]
                if (column := graph.column[node]) is not None and column[1] == term.k]
        after, before = {node for node, _ in uses}, {term.loss}
        for node in graph.tensors:
            if any(x in after and not graph.is_cut((node, i)) for i, x in enumerate(node.inputs)):
                after.add(node)
        for node in reversed(graph.tensors):
            if node in before:
                before.update(x for i, x in enumerate(node.inputs) if not graph.is_cut((node, i)))
        self.nodes = after & before
        if term.loss not in self.nodes:
            raise ValueError(f"term: no path leads from the use of {graph.labels[term.parameter]} at step {term.k} "
                             f"to {graph.labels[term.loss]}")
        self.uses = [(node, i) for node, i in uses if node in self.nodes]
        inner = ((node, i) for node in self.nodes for i, x in enumerate(node.inputs) if x in self.nodes)
        self.edges = {*self.uses, *(edge for edge in inner if not graph.is_cut(edge))}

    def gradient(self, x: Tensor) -> Array | None:
        """What is shown at x; None where it is not known: nothing recorded, or x requires no gradient."""
        if self.term is not None:
            if x is self.term.parameter:
                return total([d for use in self.uses if (d := self.contribution(use)) is not None])
            if x not in self.nodes:
                return None
        if self.recording is None:
            return x.grad
        return self.recording.gradients.get(x)

    def contribution(self, edge: Edge) -> Array | None:
        """What flowed back through an edge; None where it is not known, or not on the path."""
        if self.recording is None or (self.term is not None and edge not in self.edges):
            return None
        d = self.recording.contributions.get(edge)
        return None if d is None else np.asarray(d)

    def came_back(self, arc: Arc) -> bool:
        """Is it known that a gradient came back through one of these edges?"""
        return self.recording is not None and not arc.cut and any(
            edge in self.recording.contributions and (self.term is None or edge in self.edges) for edge in arc.edges)

    def lit(self, item: Item) -> bool:
        """Does the box lie on the highlighted path?"""
        return self.term is not None and any(x in self.nodes or x is self.term.parameter for x in item.tensors)

    def arc_lit(self, arc: Arc) -> bool:
        return any(edge in self.edges for edge in arc.edges)

    def formula(self) -> tuple[str, list[Factor]]:
        """The term and its factors, ∂E_t/∂h_t · … · ∂⁺h_k/∂W, each with the product of all up to it."""
        assert self.term is not None
        labels = self.graph.labels
        loss, parameter = labels[self.term.loss], labels[self.term.parameter]
        names, factors = [loss], []
        for state in self._states():
            parts = [labels[x] for x in state]
            names.append(parts[0] if len(parts) == 1 else f"({', '.join(parts)})")
            factors.append(self._factor(f"∂{names[-2]}/∂{names[-1]}", state))
        factors.append(self._factor(f"∂⁺{names[-1]}/∂{parameter}", [self.term.parameter]))
        if len(factors) > 7:
            factors = [*factors[:3], Factor("…", ()), *factors[-2:]]
        return f"∂{loss}/∂{parameter}⁽{str(self.term.k).translate(notation.HIGH)}⁾", factors

    def _factor(self, text: str, tensors: list[Tensor]) -> Factor:
        return Factor(text, tuple([g for x in tensors if (g := self.gradient(x)) is not None]))

    def sentence(self) -> str:
        """The size and the kind of the term."""
        assert self.term is not None
        parameter = self.graph.labels[self.term.parameter]
        crossed = len({self.graph.column[node] for node, _ in self.edges & self.graph.implicit})
        g = self.gradient(self.term.parameter)
        size = "–" if g is None else notation.magnitude(norm(g))
        kind = f"implicit: the path goes back over {crossed} step{'s' * (crossed > 1)}, along dashed lines" if crossed \
            else "explicit: the path stays within one step and crosses no dashed line"
        return (f"Its norm is {size}. It is {kind}. {parameter}.grad is the sum of all such terms, "
                f"over every loss and every step that uses {parameter}.")

    def _states(self) -> list[list[Tensor]]:
        """The states on the path, last step first."""
        by_step: dict[Column | None, list[Tensor]] = {}
        for x in self.graph.tensors:
            if x in self.nodes and x in self.graph.results_carried:
                by_step.setdefault(self.graph.column[x], []).append(x)
        return list(by_step.values())[::-1]
