"""Floor 8: the command line, the only place that knows both the library and the pictures.

Exit status: 0 all went well, 1 a proof or a check failed, 2 the input was wrong or something is missing, 130
interrupted. Results go to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path

import viz

from .. import __version__
from . import doctor, errata, explore, gates, gradients, learn, prove, step, vanish
from .common import Verb, at_least

EXAMPLES = """examples:
  tinygrad-rnn tour                                     all of it, on the language reference inside Python
  tinygrad-rnn explain --text "hello" --loss 4          where every number of dE₄/dW comes from, proved
  tinygrad-rnn step --text "hello"                      the backward pass op by op: W.grad: before += … -> after
  tinygrad-rnn draw --text "abc" --term 1               the unrolled graph, with the term of the use at step 1
  tinygrad-rnn explore --text "hello"                   the same to walk through in a browser: one page, no server
  tinygrad-rnn explain --cell lstm --parameter W_f      the same for a gate of an LSTM; --cell takes every model
  tinygrad-rnn terms --text "hello" --windows 1 2       A[t,k], and what truncated BPTT leaves of it
  tinygrad-rnn prove --cell lstm                        six routes to every gradient, each against every other
  tinygrad-rnn check --cell gru --bidirectional         every element of every gradient against two other routes
  tinygrad-rnn vanish                                   what is left of a state many steps later, for all cells
  tinygrad-rnn gates --model out/model.npz              what every gate and state did, character by character
  tinygrad-rnn doctor                                   what is wrong with a gradient from BPTT written by hand
  tinygrad-rnn errata E9                                mistakes in five study notes, as printed and as corrected
  tinygrad-rnn compare --file book.txt                  all cells on one text: weights, time per step, perplexity
  tinygrad-rnn train --file book.txt --epochs 3         a character RNN on any text, beside n-gram baselines
  tinygrad-rnn generate --model out/model.npz --prompt "The "
"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    options = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has no ∂ shows a question mark
            stream.reconfigure(errors="replace")
    try:
        result, good = options.run(options)
        text = json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False)
        if options.json:
            print(text)
        if "files" not in result and options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{options.verb}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, IndexError, TypeError, OSError, viz.NoRendererError) as error:
        print(f"tinygrad-rnn {options.verb}: {str(error).removeprefix(f'{options.verb}: ')}", file=sys.stderr)
        return 2
    return 0 if good else 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tinygrad-rnn", epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter,
                                  description="How recurrent networks learn: every number of dE/dW, drawn and proved.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")

    def add(name: str, run: Verb, what: str, example: str, files: bool = False) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=what.partition("\n")[0], description=what, epilog=f"example:\n  {example}",
                                 formatter_class=argparse.RawTextHelpFormatter)
        added.set_defaults(run=run)
        added.add_argument("--seed", type=at_least(0), default=0, help="of all random numbers (default 0)")
        if files:
            added.add_argument("--out", type=Path, default=Path("out"), help="folder for files (default out)")
        else:
            added.add_argument("--out", type=Path, help="folder for the result as JSON (default: none is written)")
        added.add_argument("--json", action="store_true", help="print the result as JSON instead")
        return added

    for part in (learn, gradients, step, explore, prove, vanish, gates, errata, doctor):
        part.verbs(add)
    return top
