"""Floor 8: the verb that shows what every gate and state did at every character: gates."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from viz import plots

from ..bptt.tables import paragraph, table
from ..language import CELLS, CharRNN
from ..ops import Array
from ..text import Vocabulary
from ..trace import trace
from .common import Adder, at_least, listing, say

CLOSED, OPEN = 0.1, 0.9


def verbs(add: Adder) -> None:
    added = add("gates", gates, "What every gate and state of a model did at every character, as a plot and a table.",
                'tinygrad-rnn gates --cell gru --text "to be or not to be"\n'
                '  tinygrad-rnn gates --model out/model.npz --text "The "', files=True)
    added.add_argument("--text", default="hello world", help="the characters to read (default hello world)")
    added.add_argument("--model", type=Path, help="a trained model; without it a fresh one, whose gates are half open")
    added.add_argument("--cell", choices=CELLS, default="lstm", metavar="CELL",
                       help=f"{', '.join(CELLS)}, of a fresh model (default lstm)")
    added.add_argument("--hidden", type=at_least(1), default=8, help="hidden units of a fresh model (default 8)")
    added.add_argument("--layers", type=at_least(1), default=1, help="stacked layers of a fresh model (default 1)")
    added.add_argument("--bidirectional", action="store_true", help="both directions, of a fresh model")


def gates(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    text = options.text
    if not text:
        raise ValueError("--text is empty; expected at least one character to read")
    model = CharRNN.load(options.model) if options.model else CharRNN(
        Vocabulary.of(text), options.hidden, options.cell, num_layers=options.layers,
        bidirectional=options.bidirectional, rng=np.random.default_rng(options.seed))
    output, _ = model.layer(model.vocabulary.encode(text)[:, None])
    several, directions = len(model.layer.cells) > 1, model.layer.directions
    say(options, f"{text!r}, character by character", "")
    found, files = {}, []
    for i, name in enumerate(model.layer.cells):
        layer, direction = i // len(directions), directions[i % len(directions)]
        traced = trace(output, layer=layer, direction=direction)
        steps, names = plots.strips_of(traced, plots.GATES)
        values = {strip: np.stack([traced[strip][t][0] for t in steps]) for strip in names}  # (T, H)
        say(options, *[f"{name}, layer {layer}, {direction}"] * several, summary(values), "")
        files += plotted(options, f"gates_{name}" if several else "gates", traced, text)
        found[name] = {strip: a.tolist() for strip, a in values.items()}
    say(options, paragraph(f"closed, open: the part of a gate's numbers below {CLOSED}, above {OPEN}. Where a gate is "
                           "closed or open for good its slope is next to 0, and little is learned through it."))
    if files:
        listing(options, files)
    return {"text": text, "recurrences": found, "files": files}, True


def summary(values: dict[str, Array]) -> str:
    """The numbers of every strip in a line, over all units and steps."""
    rows = [[name, *(f"{x:.3f}" for x in (a.min(), a.mean(), a.max())),
             *(f"{part.mean():.0%}" if name in plots.GATES else "" for part in (a < CLOSED, a > OPEN))]
            for name, a in values.items()]
    return table(["", "least", "mean", "most", "closed", "open"], rows)


def plotted(options: argparse.Namespace, name: str, traced: dict[str, dict[int, Array]], text: str) -> list[str]:
    """The strips, where matplotlib is there."""
    try:
        figure = plots.gate_strips(traced, text)
    except ImportError as error:
        say(options, "", f"No plot, only the table: {error}")
        return []
    options.out.mkdir(parents=True, exist_ok=True)
    return [str(plots.save(figure, options.out / f"{name}.svg"))]
