"""The explorer: one self-contained HTML page on which a run is walked through, forward and backward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinygrad_rnn import functional as F
from tinygrad_rnn import nn
from tinygrad_rnn.bptt.parts import reached
from tinygrad_rnn.steps import recurrence_edges, step_of
from tinygrad_rnn.sweep import order
from tinygrad_rnn.tensor import Tensor

from .data import Run

SCRIPTS = ("run", "picture", "said", "sum", "maps", "control")  # of the page, in this order
LONGEST = 100  # steps of a sequence
LARGEST = 5000  # results in the graph


class Explorer:
    """The page of one run. `data` is what it shows, `html` its text, the same bytes for the same run."""

    def __init__(self, data: dict[str, Any], title: str) -> None:
        self.data, self.title = data, title

    @cached_property
    def html(self) -> str:
        assets = files(__package__) / "page"
        text = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        parts = {"title": escape(self.title), "data": text.replace("<", "\\u003c").replace("\u2028", "\\u2028"),
                 "css": (assets / "page.css").read_text(encoding="utf-8"),
                 "js": "\n".join([(assets / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS])}
        page = (assets / "page.html").read_text(encoding="utf-8")
        before, *rest = page.split("{{")  # in one pass: what is put in is not looked at again
        pieces = [before] + [parts[name] + after for name, after in (piece.split("}}", 1) for piece in rest)]
        return "".join(pieces).encode("utf-8", "replace").decode()

    def write(self, path: str | Path) -> Path:
        """Write the page; returns its path. It works from a file:// address and loads nothing."""
        Path(path).write_text(self.html, encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        return (f'<iframe srcdoc="{escape(self.html)}" title="{escape(self.title)}" '
                'style="width:100%;height:85vh;border:1px solid #888"></iframe>')


def explore(losses: Tensor | Sequence[Tensor], parameter: Tensor | None = None, *, model: nn.Module | None = None,
            title: str = "") -> Explorer:
    """The page that takes dE/dW apart, for E = Σ E_t of the given losses, scalars, or of one.

    parameter  the one to show first; all of the graph can be chosen in the page. None: the first that reads a state.
    model      names the lines of its cells' code at what they made.
    title      what the page is about.
    Raises TypeError for what are no Tensors, ValueError where a loss is no scalar or does not depend on `parameter`,
    where nothing has a step, and for what one page cannot hold: over 100 steps, or over 5,000 results.
    """
    given = [losses] if isinstance(losses, Tensor) else list(losses)
    if not given:
        raise ValueError("explore: expected at least one loss, got none")
    for x in given:
        if not isinstance(x, Tensor):
            raise TypeError(f"explore: expected Tensors, got {type(x).__name__}")
    if len(set(given)) != len(given):
        raise ValueError(f"explore: of {len(given)} losses {len(set(given))} are different; expected all")
    nodes = order(given)
    leaves = sorted({x for node in nodes for x in node.inputs if x.op is None and x.requires_grad},
                    key=lambda x: x.index)
    if not leaves:
        raise ValueError("explore: the losses depend on nothing that requires a gradient")
    reached(given, leaves[0] if parameter is None else parameter)
    if parameter is not None and parameter.op is not None:
        raise ValueError(f"explore: expected a leaf as the parameter, got {parameter.name or 'a result'}")
    steps = len({(node.scope.get("sequence"), step_of(node)) for node, _ in recurrence_edges(nodes)})
    if steps > LONGEST or len(nodes) > LARGEST:
        raise ValueError(f"explore: {steps} steps, {len(nodes):,} results; one page holds {LONGEST} steps and "
                         f"{LARGEST:,} results. `viz.draw` folds a longer run, `bptt.terms` gives its A[t,k]")
    E = given[0] if len(given) == 1 else F.stack(given).sum().named("E")
    run = Run(E, given, parameter, model)
    first = run.data["parameters"][run.data["chosen"]]["label"]
    return Explorer(run.data, title or f"d{run.labels[E]}/d{first}, taken apart")


__all__ = ["Explorer", "explore"]
