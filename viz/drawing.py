"""A drawing of a graph."""

from __future__ import annotations

import gc
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Literal

from tinygrad_rnn.recording import Recording
from tinygrad_rnn.tensor import Tensor

from . import dot, render, svg
from .graph import Edge, Graph
from .layout import choose_detail, lay_out
from .picture import Picture
from .shown import Shown, Term

MOST = 30_000  # results in a graph that a notebook still draws by itself; without steps, a hundredth of it


class Drawing:
    """A picture of the graph behind one tensor. It shows itself in a notebook."""

    def __init__(self, graph: Graph, shown: Shown, picture: Picture | None, values: bool, labels: bool) -> None:
        self.graph, self.shown, self.picture, self.values, self.labels = graph, shown, picture, values, labels
        self.rendered_by = ""  # 'neato', 'dot', 'pygraphviz', 'built-in' or 'text', after `render`

    @cached_property
    def dot(self) -> str:
        """DOT text, the same bytes for the same program: with positions for `neato -n2`, or for `dot` without steps."""
        if self.picture is None:
            return dot.write_plain(self.graph, self.shown, self.values, self.labels)
        return dot.write(self.picture)

    @cached_property
    def svg(self) -> str:
        """SVG text: by the built-in writer, or without steps by Graphviz; then RuntimeError where that is missing."""
        if self.picture is not None:
            return svg.write(self.picture)
        text = render.graphviz(self.dot, "dot", "svg")[0].decode()
        return text[text.index("<svg"):]

    def render(self, path: str | Path) -> Path:
        """Write .svg, .png, .pdf or .dot, by its suffix; returns the path, and `rendered_by` says what wrote it.

        Graphviz draws if it is there; else .svg of a graph with steps is drawn all the same. RuntimeError otherwise.
        """
        plain = self.picture is None
        self.rendered_by = render.write(path, self.dot, "dot" if plain else "neato", None if plain else self.svg)
        return Path(path)

    def _repr_svg_(self) -> str | None:
        try:
            return self.svg if self.picture is not None else None  # then the notebook takes the HTML
        except Exception:
            return None

    def _repr_html_(self) -> str:
        try:
            if self.picture is None and len(self.graph.tensors) > MOST // 100:
                return (f"<p>{len(self.graph.tensors):,} tensors without steps are too many to lay out here: "
                        "<code>.render(path)</code> tries, <code>.dot</code> is the text.</p>")
            return self.svg
        except Exception as error:
            return self._as_text(error)

    def _as_text(self, error: Exception) -> str:
        try:
            text = f"<pre>{escape(self.dot)}</pre>" if len(self.dot) < 50_000 else "<p>Its text is in .dot.</p>"
            return f"<p>{escape(str(error))}</p>{text}"
        except Exception:
            return f"<pre>{escape(object.__repr__(self))}</pre>"


def draw(root: Tensor, *, values: bool = True, detail: Literal["auto", "ops", "cells", "folded"] = "auto",
         recording: Recording | None = None, term: Term | None = None, cut: Container[Edge] = (),
         label_edges: bool = False) -> Drawing:
    """Draw the graph behind `root`: steps as columns if its scopes have a `t`, else as `dot` lays it out.

    values       show numbers, and gradients where they are known: before backward their rows say –.
    detail       every op, one box per cell, or the first and last three steps; 'auto' goes by the number of steps.
    recording    `record(root)`: the gradients of inner nodes and of every edge.
    term         one term of a gradient highlighted, with the gradients of its loss alone; all else is dimmed.
    cut          edges (node, input position) drawn with a gap; those cut in the recording are, too.
    label_edges  print on every edge the norm of what flowed back through it.
    Raises TypeError for what is no Tensor, ValueError for another detail or a term without a path.
    """
    if not isinstance(root, Tensor):
        raise TypeError(f"draw: expected a Tensor, got {type(root).__name__}")
    if detail not in ("auto", "ops", "cells", "folded"):
        raise ValueError(f"detail {detail!r}: expected 'auto', 'ops', 'cells' or 'folded'")
    with collector_paused():
        graph = Graph(root, recording, cut)
        shown = Shown(graph, term)
        steps = len(graph.columns)
        picture = lay_out(graph, shown, choose_detail(steps) if detail == "auto" else detail, values, label_edges) \
            if steps else None
    return Drawing(graph, shown, picture, values, label_edges)


@contextmanager
def collector_paused() -> Iterator[None]:
    """All that a picture is made of lives until it is done: looking for cycles among it takes as long as making it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
