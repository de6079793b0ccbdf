"""Floor 8: what the verbs share: options, progress, and a model of characters to take apart.

A verb is a function of its options that prints, and returns its result as data and whether all went well.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import viz

from .. import functional as F
from ..bptt.tables import subscript
from ..language import CELLS, CharRNN
from ..recording import record
from ..tensor import Tensor
from ..text import Vocabulary

Verb = Callable[[argparse.Namespace], tuple[dict[str, Any], bool]]
Adder = Callable[..., argparse.ArgumentParser]  # (name, run, what, example, files=False)


def at_least(least: int) -> Callable[[str], int]:
    """An argument type: a whole number from `least` on."""
    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: expected at least {least}")
        return int(text)

    return integer


def cell_option(added: argparse.ArgumentParser, of: str = "", default: str = "rnn") -> None:
    added.add_argument("--cell", choices=CELLS, default=default, metavar="CELL",
                       help=f"{', '.join(CELLS)}{of} (default {default})")


def layer_options(added: argparse.ArgumentParser, of: str = "", cell: str = "rnn") -> None:
    cell_option(added, of, cell)
    added.add_argument("--layers", type=at_least(1), default=1, help=f"stacked layers{of} (default 1)")
    added.add_argument("--bidirectional", action="store_true", help=f"both directions{of}")


def model_options(added: argparse.ArgumentParser, loss: bool = True) -> None:
    """A model of characters, and the loss, unless all are looked at, and the parameter to look at."""
    added.add_argument("--text", default="hello", help="the characters to read (default hello)")
    added.add_argument("--model", type=Path, help="a trained model; without it a fresh one")
    added.add_argument("--hidden", type=at_least(1), default=4, help="hidden units of a fresh model (default 4)")
    layer_options(added, ", of a fresh model")
    if loss:
        added.add_argument("--loss", type=int, help="t of the loss E_t (default: the last)")
    added.add_argument("--parameter", help="as the tables call it: W, U_f, b', … (default: the first W)")


def say(options: argparse.Namespace, *lines: object) -> None:
    if not options.json:
        print(*lines, sep="\n", flush=True)


class Progress:
    """A bar on standard error: redrawn in a terminal, a line for every tenth elsewhere."""

    def __init__(self, what: str = "") -> None:
        self.start, self.tenths, self.what = time.monotonic(), 0, what and f"{what} "

    def __call__(self, done: int, total: int, loss: float) -> None:
        tenths = 10 * done // total
        live = sys.stderr.isatty()
        if (done % 20 and done != total) if live else tenths == self.tenths:
            return
        self.tenths = tenths
        bar = "█" * (3 * tenths) + "·" * (30 - 3 * tenths)
        left = (time.monotonic() - self.start) * (total - done) / done
        print(f"{chr(13) if live else ''}  {self.what}{bar} {done}/{total} steps, loss {loss:.3f} nats, "
              f"{left:3.0f} s left", end="" if live else "\n", file=sys.stderr, flush=True)
        if live and done == total:
            print(file=sys.stderr)


def described(cell: str, layers: int, bidirectional: bool = False) -> str:
    return f"{cell}, {layers} layer{'s' * (layers > 1)}{', both directions' * bidirectional}"


def setting(options: argparse.Namespace, model: CharRNN) -> str:
    """The model, and where its numbers are from."""
    layer = model.layer
    weights = f"weights of {options.model}" if options.model else f"random weights (seed {options.seed})"
    return f"{described(model.cell, layer.num_layers, layer.bidirectional)}, H={layer.hidden_size}, {weights}"


def scene(options: argparse.Namespace, model: CharRNN, t: int | None = None) -> str:
    """The same, and what is read and asked for, by E_t alone or by all losses."""
    text = options.text
    if t is None:
        return f"{setting(options, model)}: {reading(text)}"
    after = f" after {shorten(repr(text[:t]))}" * (t < len(text) - 1)
    return (f"{setting(options, model)}: reads {shorten(repr(text[:-1]))}, "
            f"{subscript('E', t)} asks for {text[t]!r}{after}")


def reading(text: str) -> str:
    return f"reads {shorten(repr(text[:-1]))}, predicts {shorten(repr(text[1:]))}"


def shorten(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:20]} … {text[-8:]}"


def model_for(options: argparse.Namespace) -> CharRNN:
    if options.model:
        return CharRNN.load(options.model)
    if len(options.text) < 2:
        raise ValueError(f"--text {options.text!r}: expected at least two characters, one to read and one to predict")
    return CharRNN(Vocabulary.of(options.text), options.hidden, options.cell, num_layers=options.layers,
                   bidirectional=options.bidirectional, rng=np.random.default_rng(options.seed))


def read(model: CharRNN, text: str) -> tuple[list[Tensor], Any, Any]:
    """E_1 … E_T of predicting each next character of the text, with its inputs and targets (T, 1)."""
    ids = model.vocabulary.encode(text)
    if len(ids) < 2:
        raise ValueError(f"text {text!r}: expected at least two characters, one to read and one to predict")
    x, y = ids[:-1, None], ids[1:, None]
    return model.losses(x, y), x, y


def chosen(options: argparse.Namespace, losses: list[Tensor]) -> int:
    t = len(losses) if options.loss is None else options.loss
    if not 1 <= t <= len(losses):
        raise ValueError(f"--loss {t}: expected a step from 1 to {len(losses)}")
    return t


def parameter_of(model: CharRNN, name: str | None) -> Tensor:
    """The parameter of that name; without one the first W."""
    known = {str(p.name): p for p in model.parameters()}
    if name is None:
        name = next(key for key in known if key.startswith("W"))
    if name not in known:
        raise ValueError(f"--parameter {name}: this model has {', '.join(known)}")
    return known[name]


def losses_sum(losses: list[Tensor]) -> Tensor:
    return F.stack(losses).sum().named("E")


def drawn(options: argparse.Namespace, name: str, E: Tensor, detail: Any = "auto", suffix: str = "svg",
          term: viz.Term | None = None) -> list[str]:
    """Write a picture of E with its gradients, and its DOT text; the paths."""
    drawing = viz.draw(E, detail=detail, recording=record(E), term=term)
    options.out.mkdir(parents=True, exist_ok=True)
    return [str(drawing.render(options.out / f"{name}.{form}")) for form in dict.fromkeys((suffix, "dot"))]


def listing(options: argparse.Namespace, files: list[str]) -> None:
    say(options, "", "Written:", *(f"  {file}" for file in files))
