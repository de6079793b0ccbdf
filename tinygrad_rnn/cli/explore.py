"""Floor 8: the verb `explore`: a run as one page, to be walked through in a browser, and its gradient proved."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import viz

from .. import bptt
from .common import (
    Adder,
    chosen,
    described,
    listing,
    losses_sum,
    model_for,
    model_options,
    parameter_of,
    read,
    reading,
    say,
)


def verbs(add: Adder) -> None:
    added = add("explore", explore, "Write a run as one page to be walked through in any browser.\n"
                "Forward, then back, every += and every term. It needs no server, no network and no further file.",
                'tinygrad-rnn explore --cell lstm --text "hello"', files=True)
    model_options(added)


def explore(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The page of E = Σ E_t, or of the one E_t asked for; good where all witnesses agree with its gradient."""
    model = model_for(options)
    losses, _, _ = read(model, options.text)
    parameter = parameter_of(model, options.parameter)
    shown = losses if options.loss is None else [losses[chosen(options, losses) - 1]]
    what = described(model.cell, model.layer.num_layers, model.layer.bidirectional)
    page = viz.explore(shown, parameter, model=model, title=f"{what}: {reading(options.text)}")
    if len(shown) * parameter.size > 1000:
        print(f"  proving {parameter.size:,} numbers over {len(losses)} steps …", file=sys.stderr, flush=True)
    proof = bptt.prove(bptt.explain(losses_sum(shown) if len(shown) > 1 else shown[0], parameter))
    options.out.mkdir(parents=True, exist_ok=True)
    file = page.write(options.out / "explorer.html")
    size = file.stat().st_size
    say(options, proof)
    listing(options, [f"{file}  ({size / 1000:,.0f} kB): open it in a browser"])
    return {"files": [str(file)], "bytes": size, "parameter": parameter.name, "proved": bool(proof)}, bool(proof)
