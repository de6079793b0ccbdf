"""Floor 8: the verb that shows what every gate and state did at every character: gates."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from viz import plots

from ..bptt.tables import SHOWN, WIDTH, ends, paragraph, table
from ..language import CharRNN
from ..ops import Array
from ..text import Vocabulary
from ..trace import trace
from .common import Adder, at_least, layer_options, listing, say, setting

CLOSED, OPEN = 0.1, 0.9


def verbs(add: Adder) -> None:
    added = add("gates", gates, "What every gate and state of a model did at every character, as a plot and a table.",
                'tinygrad-rnn gates --cell gru --text "to be or not to be"\n'
                '  tinygrad-rnn gates --model out/model.npz --text "The "', files=True)
    added.add_argument("--text", default="hello world", help="the characters to read (default hello world)")
    added.add_argument("--model", type=Path, help="a trained model; without it a fresh one, whose gates are half open")
    added.add_argument("--hidden", type=at_least(1), default=8, help="hidden units of a fresh model (default 8)")
    layer_options(added, ", of a fresh model", cell="lstm")


def gates(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    text = options.text
    if not text:
        raise ValueError("--text is empty; expected at least one character to read")
    model = CharRNN.load(options.model) if options.model else CharRNN(
        Vocabulary.of(text), options.hidden, options.cell, num_layers=options.layers,
        bidirectional=options.bidirectional, rng=np.random.default_rng(options.seed))
    output, _ = model.layer(model.vocabulary.encode(text)[:, None])
    several, directions = len(model.layer.cells) > 1, model.layer.directions
    say(options, fill(f"{setting(options, model)}: reads {text!r}", WIDTH), "")
    found, files = {}, []
    for i, name in enumerate(model.layer.cells):
        layer, direction = i // len(directions), directions[i % len(directions)]
        traced = trace(output, layer=layer, direction=direction)
        steps, names = plots.strips_of(traced, plots.GATES)
        values = {strip: np.stack([traced[strip][t][0] for t in steps]) for strip in names}  # (T, H)
        say(options, *[f"{name}, layer {layer}, {direction}"] * several, by_character(values, steps, text), "",
            summary(values), "")
        files += plotted(options, f"gates_{name}" if several else "gates", traced, text)
        found[name] = {strip: as_data(a) for strip, a in values.items()}
    gated = any(strip in plots.GATES for its in found.values() for strip in its)
    say(options, *map(paragraph, notes(gated, fresh=options.model is None)))
    if files:
        listing(options, files)
    return {"text": text, "recurrences": found, "files": files}, True


def as_data(a: Array) -> Any:
    """As lists, ready for JSON; what is not finite as null."""
    found = a.astype(object)
    found[~np.isfinite(a)] = None
    return found.tolist()


def by_character(values: dict[str, Array], steps: Sequence[int], text: str) -> str:
    """The mean of every strip (T, H) over the units, a line for each character; of many the first and the last."""
    rows = [["…"] * (2 + len(values)) if i is None else
            [str(steps[i]), repr(text[i]), *(f"{a[i].mean():.3f}" for a in values.values())]
            for i in ends(len(steps), SHOWN)]
    return table(["t", "reads", *values], rows, left=(1,))


def notes(gated: bool, fresh: bool) -> list[str]:
    """What the numbers mean."""
    said = ["By character: the mean over the units. Below: over all units and characters."]
    if gated:
        said.append(f"closed, open: the part of a gate's numbers below {CLOSED}, above {OPEN}. Where a gate is closed "
                    "or open for good, its own weights learn little there, for its slope σ' is next to 0. What it "
                    "multiplies is another matter: an open gate lets the gradient through, as an open forget gate does "
                    "with that of c; a closed one stops it.")
    if gated and fresh:
        said.append("This model is untrained: its weights are small random numbers, so what goes into a gate is near "
                    "0, and the gate is about half open, σ(0) = 1/2, for that reason alone.")
    return said


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
