"""Floor 8: the verb `prove`: every gradient of a model on text by six routes, in one table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..bptt.proof import Witness
from ..bptt.routes import Agreement, Row, compare, plain
from .common import Adder, at_least, chosen, layer_options, model_for, read, reading, say, setting

TEXT = "the state of a step is what it read and what came before, "


def verbs(add: Adder) -> None:
    added = add("prove", prove, "Compute every gradient of a model by six routes, and compare all with all.\n"
                "RTRL keeps H³ numbers for each W, 2 H³ of an LSTM: a route that needs half a gigabyte is left out.\n"
                "The work grows with T; with T² for the sum of all losses.",
                "tinygrad-rnn prove --cell lstm --steps 6 --hidden 4")
    added.add_argument("--text", default=TEXT, help=f"the characters to read, over and over (default {TEXT!r})")
    added.add_argument("--steps", type=at_least(1), default=6, help="characters to predict (default 6)")
    added.add_argument("--model", type=Path, help="a trained model; without it a fresh one")
    added.add_argument("--hidden", type=at_least(1), default=4, help="hidden units of a fresh model (default 4)")
    layer_options(added, ", of a fresh model")
    added.add_argument("--loss", type=int, help="t of the loss E_t alone (default: the last, and E, the sum of all)")


def prove(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The table; good where every route agrees with every other."""
    model = model_for(options)
    text = (options.text * (options.steps // len(options.text) + 1))[:options.steps + 1]
    losses, x, y = read(model, text)
    t, layer = chosen(options, losses), model.layer
    say(options, f"{setting(options, model)}, T={len(losses)}: {reading(text)}", "",
        *(f"  {line}" for line in (*next(iter(layer.cells.values())).equations().splitlines(), "q_t = V h_t + c")), "")
    if layer.bidirectional:
        say(options, "  h'_t goes from the last step to the first, with weights of its own; V reads [h_t, h'_t].", "")
    numbers = sum(p.size for p in model.parameters())
    if numbers * len(losses) > 20_000:
        print(f"  proving {numbers:,} numbers over {len(losses)} steps …", file=sys.stderr, flush=True)
    agreement = compare(losses, t, model.parameters(), plain(layer, model.head, x, y), total=options.loss is None)
    say(options, agreement)
    return as_data(agreement), bool(agreement)


def as_data(agreement: Agreement) -> dict[str, Any]:
    """Every number of the table; what is not finite as null."""
    def entry(w: Witness | str) -> dict[str, Any]:
        if isinstance(w, str):
            return {"none": w}
        error = w.error if np.isfinite(w.error) else None
        return {"error": error, "allowed": w.tolerance, "shares": w.shares, "agrees": bool(w)}

    def row(r: Row) -> dict[str, Any]:
        return {"loss": r.loss, "parameter": r.parameter, "numbers": r.size, "norm": r.norm, "agrees": bool(r),
                "routes": {route: entry(w) for route, w in r.cells.items()},
                "pairs": [{"routes": w.route.split(" – "), **entry(w)} for w in r.pairs]}

    return {"proved": bool(agreement), "sides": agreement.sides(), "rows": [row(r) for r in agreement.rows]}
