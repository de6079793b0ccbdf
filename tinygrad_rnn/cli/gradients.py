"""Floor 8: the verbs that take one gradient apart: explain, draw, check."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

import viz

from .. import bptt
from .. import functional as F
from ..bptt.formulas import as_data, markdown
from ..bptt.proof import Witness
from ..bptt.tables import WIDTH, cosines_table, paragraph, zeros_notes
from ..check import gradcheck
from ..language import CELLS
from ..nn import Linear, Recurrent
from ..tensor import Tensor
from .common import (
    Adder,
    at_least,
    chosen,
    described,
    drawn,
    layer_options,
    listing,
    losses_sum,
    model_for,
    model_options,
    parameter_of,
    read,
    say,
    scene,
)


def verbs(add: Adder) -> None:
    added = add("explain", explain, "Take the gradient of one loss apart into explicit and implicit terms.",
                'tinygrad-rnn explain --text "hello" --loss 4 --parameter W')
    model_options(added)
    added.add_argument("--markdown", action="store_true", help="print formulas and numbers as Markdown instead")
    added = add("terms", terms, "The matrix A[t,k] of every loss and use, and what truncated BPTT leaves of it.",
                'tinygrad-rnn terms --text "recurrent" --windows 1 2 4')
    model_options(added, loss=False)
    added.add_argument("--windows", type=at_least(1), nargs="+", default=[1, 2, 4], metavar="TAU",
                       help="windows of truncation, in steps (default 1 2 4)")
    added.add_argument("--plot", action="store_true", help="also write the map of A and the truncation as plots")
    added = add("draw", draw, "Draw the unrolled graph with its gradients.",
                'tinygrad-rnn draw --text "abc" --term 1 --format png', files=True)
    model_options(added)
    added.add_argument("--term", type=int, metavar="K", help="highlight the term of the use at step K")
    added.add_argument("--detail", choices=("auto", "ops", "cells", "folded"), default="auto",
                       help="every op, one box per cell, or the first and last three steps (default by length)")
    added.add_argument("--format", choices=("svg", "png", "pdf", "dot"), default="svg",
                       help="svg is drawn without Graphviz too (default svg)")
    added = add("check", check, "Check every element of every gradient of a model by two other routes.",
                "tinygrad-rnn check --cell lstm --layers 2 --steps 20")
    layer_options(added)
    added.add_argument("--steps", type=at_least(1), default=6, help="length of the sequence (default 6)")


def explain(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    model = model_for(options)
    losses, x, y = read(model, options.text)
    t, parameter = chosen(options, losses), parameter_of(model, options.parameter)
    equations = [*next(iter(model.layer.cells.values())).equations().splitlines(), "q_t = V h_t + c"]
    indent, prose = ("    ", str) if options.markdown else ("  ", paragraph)
    opening = [fill(f"{scene(options, model, t)}.", WIDTH), "", *(indent + line for line in equations), "",
               prose("The notes' columns; here a state is a row, and a matrix is stored as (in, out): x_t U, not U "
                     "x_t."), ""]
    if model.layer.bidirectional:
        opening += [prose("h'_t goes from the last step to the first, with weights of its own; V reads [h_t, h'_t]. "
                          "h'_t has seen the character that E_t asks for: no language model, but its gradients are "
                          "what they are."), ""]
    return explained_loss(options, losses[t - 1], parameter, model.reference(x, y), opening, options.markdown)


def terms(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    model = model_for(options)
    losses, _, _ = read(model, options.text)
    truncated = bptt.truncation(losses, parameter_of(model, options.parameter), options.windows)
    proof = bptt.prove_truncation(truncated)
    a = truncated.terms
    say(options, fill(f"{scene(options, model)}.", WIDTH), "", a, "", cosines_table(a), "", truncated, "", proof)
    files = plotted(options, truncated) if options.plot else []
    return {"parameter": a.parameter.name, "losses": [a.time(i) for i in range(len(losses))], "steps": list(a.steps),
            "norms": a.norms.tolist(), "cosines": a.cosines.tolist(), "rows": a.rows.tolist(),
            "columns": a.columns.tolist(), "total": a.total.tolist(), "windows": list(truncated.windows),
            "chunked": truncated.chunked.tolist(), "sliding": truncated.sliding.tolist(), "proved": bool(proof),
            "witnesses": [as_json(w) for w in proof.witnesses]} | ({"files": files} if files else {}), bool(proof)


def plotted(options: argparse.Namespace, truncated: bptt.Truncation) -> list[str]:
    """The map of A with the stairs of the last window, and both kinds of truncation, where matplotlib is there."""
    from viz import plots

    a = truncated.terms
    try:
        figures = {"terms": plots.term_maps({str(a.parameter.name): a.norms}, truncated.windows[-1]),
                   "truncation": plots.truncation_curves(truncated)}
    except ImportError as error:
        say(options, "", f"No plots, only the tables: {error}")
        return []
    out = options.out or Path("out")
    out.mkdir(parents=True, exist_ok=True)
    files = [str(plots.save(figure, out / f"{name}.svg")) for name, figure in figures.items()]
    listing(options, files)
    return files


def explained_loss(options: argparse.Namespace, loss: Tensor, parameter: Tensor, reference: Any,
                   opening: Sequence[str] = (), as_markdown: bool = False) -> tuple[dict[str, Any], bool]:
    """Print the table of one loss and its proof; the same as data, and whether all witnesses agree.

    opening: what is said before, in Markdown under its title.
    """
    e = bptt.explain(loss, parameter)
    if as_markdown:
        title, body = markdown(e).split("\n\n", 1)
        zeros = [k for k, part in e.terms.items() if not part.any()]
        say(options, title, "", *opening, body, "", *(f"{note}\n" for note in zeros_notes([loss], parameter, zeros)))
    else:
        say(options, *opening, e, "")
    if 1 < len(e.terms) <= 8 and not as_markdown:
        with suppress(ValueError):  # where no one state leads to E_t
            say(options, bptt.inside(e), "")
    if len(e.terms) * e.total.size > 20_000:
        print(f"  proving {e.total.size:,} numbers over {len(e.terms)} steps …", file=sys.stderr, flush=True)
    proof = bptt.prove(e, reference)
    verdict = f"{'Proved' if proof else 'NOT PROVED'} by {len(proof.witnesses)} witnesses."
    say(options, verdict if as_markdown else proof)
    return {**as_data(e), "proved": bool(proof), "witnesses": [as_json(w) for w in proof.witnesses]}, bool(proof)


def as_json(w: Witness) -> dict[str, Any]:
    """A witness as data; an error that is no number as null."""
    return {"part": w.part, "route": w.route, "shares": w.shares, "agrees": bool(w),
            "error": w.error if math.isfinite(w.error) else None, "allowed": w.tolerance}


def draw(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    model = model_for(options)
    losses, _, _ = read(model, options.text)
    term, t, parameter = None, chosen(options, losses), parameter_of(model, options.parameter)
    if options.term is None and (options.loss is not None or options.parameter is not None):
        raise ValueError("--loss and --parameter belong to --term K, the term to highlight")
    if options.term is not None:
        last = len(losses) if model.layer.bidirectional else t
        if not 1 <= options.term <= last:
            raise ValueError(f"--term {options.term}: expected a step from 1 to {last}")
        term = viz.Term(loss=losses[t - 1], parameter=parameter, k=options.term)
    files = drawn(options, "unrolled", losses_sum(losses), options.detail, options.format, term)
    listing(options, files)
    return {"files": files}, True


def check(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    rng = np.random.default_rng(options.seed)
    T, B, D, H, V = options.steps, 3, 4, 5, 6
    kind, settings = CELLS[options.cell]
    layer = Recurrent(kind, D, H, options.layers, bidirectional=options.bidirectional, rng=rng, **settings)
    head = Linear(H * len(layer.directions), V, rng=rng)
    x = Tensor(rng.normal(size=(T, B, D)), requires_grad=True, name="x")
    first = tuple(Tensor(rng.normal(size=(len(layer.cells), B, H)), requires_grad=True, name=f"{name}_0")
                  for name in kind.states)
    y = rng.integers(0, V, (T, B))

    def loss(*_: Tensor) -> Tensor:
        output, _last = layer(x, first if len(first) > 1 else first[0])
        return F.cross_entropy(head(output), y)

    inputs = [*layer.parameters(), *head.parameters(), *first, x]
    say(options, fill(f"{described(options.cell, options.layers, options.bidirectional)}, T={T}, B={B}, D={D}, H={H}, "
                      f"V={V}: {', '.join(str(p.name) for p in inputs)}", WIDTH), "")
    reports = [gradcheck(loss, inputs, method="differences", rtol=1e-6, atol=1e-9),
               gradcheck(loss, inputs, method="complex step", rtol=1e-9, atol=1e-15)]
    for report in reports:
        say(options, *(fill(line, WIDTH) for line in str(report).splitlines()), "")
    return {"reports": [{"method": r.method, "passed": bool(r), "entries": r.entries, "failed": r.failed}
                        for r in reports]}, all(reports)
