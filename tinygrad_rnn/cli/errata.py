"""Floor 8: the verb `errata`: what five study notes got wrong, and what comes of it, computed."""

from __future__ import annotations

import argparse
from typing import Any

from ..errata import ERRATA, NOTES, Demonstration, Erratum, errata_table, find
from .common import Adder, say


def verbs(add: Adder) -> None:
    added = add("errata", errata, "Mistakes in five study notes, run as printed and as corrected.",
                "tinygrad-rnn errata E9")
    added.add_argument("number", nargs="?", metavar="E",
                       help="E1 … E34: one mistake with its numbers (default: all, in one table)")


def errata(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """One row with its demonstration, or all; good where every demonstration shows what it claims."""
    if options.number is not None:
        return one(options, find(options.number))
    seen = {e.number: e.demonstrate(options.seed) for e in ERRATA}
    say(options, "What five study notes say, what is right, and what is seen where both are run.",
        *(f"  {note}: {title}" for note, title in NOTES.items()), "", errata_table(seen), "",
        f"{sum(map(bool, seen.values()))} of {sum(d is not None for d in seen.values())} demonstrations show what they "
        "claim. `tinygrad-rnn errata E9` shows the numbers of one.",
        "see: where the right form is documented; `python -m pydoc tinygrad_rnn.nn.RNNCell` prints it.")
    return {"errata": [as_data(e, seen[e.number]) for e in ERRATA]}, all(d is None or d for d in seen.values())


def one(options: argparse.Namespace, erratum: Erratum) -> tuple[dict[str, Any], bool]:
    demonstration = erratum.demonstrate(options.seed)
    if demonstration is None:
        say(options, erratum, "", "  Nothing to run: the library has the right form only.")
        return as_data(erratum, None), True
    say(options, erratum, "", demonstration)
    return as_data(erratum, demonstration), bool(demonstration)


def as_data(e: Erratum, demonstration: Demonstration | None) -> dict[str, Any]:
    data: dict[str, Any] = {"number": e.number, "note": e.note, "written": e.written, "right": e.right,
                            "see": f"tinygrad_rnn.{e.place}"}
    if demonstration is not None:
        d = demonstration
        data |= {"shown": bool(d), "setting": d.setting, "columns": d.columns, "rows": d.rows, "fails": d.fails,
                 "holds": d.holds, "verdict": d.verdict}
    return data
