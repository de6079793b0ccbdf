"""Which gradients a picture shows: those of a recording, or those of one loss alone, along the path of one term."""

from __future__ import annotations

from dataclasses import dataclass

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

    def lit(self, item: Item) -> bool:
        """Does the box lie on the highlighted path?"""
        return self.term is not None and any(x in self.nodes or x is self.term.parameter for x in item.tensors)

    def arc_lit(self, arc: Arc) -> bool:
        return any(edge in self.edges for edge in arc.edges)

    def formula(self) -> tuple[str, str]:
        """The term as a product, ∂E_t/∂h_t · … · ∂⁺h_k/∂W, and a sentence on its size and kind."""
        assert self.term is not None
        labels = self.graph.labels
        loss, parameter = labels[self.term.loss], labels[self.term.parameter]
        names = self._states()
        factors = [f"∂{a}/∂{b}" for a, b in zip([loss, *names], names)] + [f"∂⁺{[loss, *names][-1]}/∂{parameter}"]
        if len(factors) > 7:
            factors = [*factors[:3], "…", *factors[-2:]]
        crossed = len(self.edges & self.graph.implicit)
        g = self.gradient(self.term.parameter)
        size = "–" if g is None else notation.magnitude(norm(g))
        kind = f"implicit, for the path crosses {crossed} dashed edge{'s' * (crossed > 1)}" if crossed else \
            "explicit, for the path crosses no dashed edge"
        use = f"{parameter}⁽{str(self.term.k).translate(notation.HIGH)}⁾"
        return (f"∂{loss}/∂{use} = {' · '.join(factors)}",
                f"Its norm is {size}. It is {kind}; {parameter}.grad is the sum of all such terms, "
                f"over every loss and every step that uses {parameter}.")

    def _states(self) -> list[str]:
        """The states on the path, last step first."""
        graph = self.graph
        by_step: dict[Column | None, list[str]] = {}
        for x in graph.tensors:
            if x in self.nodes and x in graph.results_carried:
                by_step.setdefault(graph.column[x], []).append(graph.labels[x])
        return [each[0] if len(each) == 1 else f"({', '.join(each)})" for each in by_step.values()][::-1]
